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


class Brightest(nn.Module):
    """Two numbers of the whole image: its brightest value over 100, and the rest to 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        most = x.flatten(1).amax(1, keepdim=True) / 100
        return torch.cat([most, 1 - most], 1)


class OneCentre(nn.Module):
    """The maps of a detection of one class: sure of one place, usual boxes everywhere."""

    def __init__(self, x: int, y: int) -> None:
        super().__init__()
        self.x, self.y = x, y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.zeros(x.shape[0], 5, x.shape[2], x.shape[3])
        maps[:, 0] = -20.0
        maps[:, 0, self.x, self.y] = 20.0
        return maps


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
