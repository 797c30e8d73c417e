"""Half precision where a device is faster in it; what needs all digits keeps them."""

from __future__ import annotations

import torch

from models.learning.ranks import Answers


def half_of(device: torch.device) -> torch.dtype | None:
    """Return the half precision that a device computes convolutions faster in; None: there is none.

    A GPU has float16, whose range needs a scaled loss; a processor with AVX512-BF16 or AMX has
    bfloat16, whose range is float32's.
    """
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else None
    return None


def single(answers: Answers) -> Answers:
    """Return answers in float32: a loss adds up over all voxels, more than half precision holds."""
    if isinstance(answers, torch.Tensor):
        return answers.float()
    return [each.float() for each in answers]
