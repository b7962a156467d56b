"""Known pixels in place, and painted colours that meet them at the border of a hole."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 1 / 8  # of the picture's side; that far into a straight border's hole half of the correction is left


class KnownPixels:
    """What is known of a picture, and the border of its hole; computed once, for all steps.

    pixels: (3, S, S); keep: (1, S, S), 1 where they count.
    """

    def __init__(self, pixels: Tensor, keep: Tensor) -> None:
        self._pixels, self._keep, self._hole = pixels, keep, 1 - keep
        self._kernel = _kernel(pixels.shape[-1], pixels.device)
        touching = _neighbours(keep)
        self._edge = self._hole * touching.clamp_max(1)
        self._beside = _neighbours(pixels * keep) / touching.clamp_min(1)
        # Spread over a straight border's edge, 1 / d^3 adds up to 2 / d^2.
        self._weight = self._spread(self._edge) + 2 / (REACH * pixels.shape[-1]) ** 2

    def imposed(self, painted: Tensor) -> Tensor:
        """A painted picture (3, S, S), in the pixels' range, with the known pixels in place and its colours in the hole
        moved, near the border, to meet them.

        As in Poisson image editing (Perez et al., SIGGRAPH 2003, equation 4) what the pixels at the hole's edge miss of
        their known neighbours is spread smoothly into the hole. The membrane is approximated by weights of 1 / d^3
        (Farbman et al., Convolution Pyramids, SIGGRAPH Asia 2011), and fades with the distance.
        """
        moved = self._spread(self._edge * (self._beside - painted)) / self._weight
        return self._keep * self._pixels + self._hole * (painted + moved)

    def _spread(self, x: Tensor) -> Tensor:
        """(C, S, S) convolved with 1 / d^3."""
        side = x.shape[-1]
        return torch.fft.irfft2(torch.fft.rfft2(x, (2 * side, 2 * side)) * self._kernel, (2 * side, 2 * side))[:, :side, :side]


@cache
def _kernel(side: int, device: torch.device) -> Tensor:
    """The transform of 1 / d^3, (2 side, side + 1); d is to the known pixel, one px beyond the edge's."""
    across = torch.arange(2 * side, device=device, dtype=torch.float32)
    squared = torch.minimum(across, 2 * side - across) ** 2
    return torch.fft.rfft2((squared[:, None] + squared + 1) ** -1.5)


def _neighbours(x: Tensor) -> Tensor:
    """The sum of each pixel's four neighbours; (C, S, S)."""
    p = F.pad(x, (1, 1, 1, 1))
    return p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]
