"""Networks of one line, for bundles whose answer a test knows beforehand; torch can script them."""

from __future__ import annotations

import torch
from torch import nn


class Above(nn.Module):
    """One channel a threshold: positive where the image is above it."""

    def __init__(self, *thresholds: float, background: bool = False) -> None:
        super().__init__()
        self.thresholds: list[float] = list(thresholds)
        self.background = background

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = [x[:, :1] - each for each in self.thresholds]
        if self.background:
            channels.insert(0, torch.zeros_like(x[:, :1]))
        return torch.cat(channels, 1)


class Means(nn.Module):
    """Two numbers of the whole image: its mean over 100, and the rest to 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.flatten(1).mean(1, keepdim=True) / 100
        return torch.cat([mean, 1 - mean], 1)


class Channel(nn.Module):
    """Positive where one of the channels is above 100."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = x[:, self.number : self.number + 1]
        return torch.cat([torch.zeros_like(chosen), chosen - 100], 1)


class Itself(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
