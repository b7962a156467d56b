"""Pixels (uint8, channels last) and signals (float in [-1, 1], channels first), the form networks work on."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

HALF_RANGE = 127.5


def to_signal(pixels: Tensor) -> Tensor:
    """Pixels (..., H, W, C) as a signal (..., C, H, W), float32, on the same device."""
    return pixels.movedim(-1, -3).float() / HALF_RANGE - 1


def to_pixels(signal: Tensor) -> Tensor:
    """A signal (..., C, H, W) as pixels (..., H, W, C), contiguous; what is outside [-1, 1] is clipped."""
    return ((signal.clamp(-1, 1) + 1) * HALF_RANGE).round().byte().movedim(-3, -1).contiguous()


def resized(signal: Tensor, shape: tuple[int, int]) -> Tensor:
    """(C, H, W) to (C, *shape), antialiased."""
    if signal.shape[-2:] == shape:
        return signal
    return F.interpolate(signal[None], size=shape, mode="area")[0]
