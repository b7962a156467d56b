"""Known pixels in place, and painted colours that meet them at the border of a hole."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# In parts of the picture's side.
BAND, ALONG = (
    0.03,
    0.1,
)  # standard deviations: how deep beside the border, and how far along it, a tone is taken
TONE_REACH, TEXTURE_REACH = (
    1 / 8,
    0.025,
)  # that far into a straight border's hole half of a correction is left

TINY = 1e-8  # below any sum of weights beside a border, above the rounding of none


class KnownPixels:
    """What is known of a picture, and the border of its hole; computed once, for all steps.

    pixels: (3, S, S); keep: (1, S, S), 1 where they count.
    """

    def __init__(self, pixels: Tensor, keep: Tensor) -> None:
        self._pixels, self._keep, self._hole = pixels, keep, 1 - keep
        side = pixels.shape[-1]
        self._along, self._falloff = _gaussian(ALONG, side, pixels.device), _falloff(side, pixels.device)
        touching = _neighbours(keep)
        self._edge = self._hole * touching.clamp_max(1)
        self._band = _convolved(self._edge, _gaussian(BAND, side, pixels.device)).clamp_min(0)
        tone = self._tone(pixels, keep)
        self._beside = torch.stack([tone, _neighbours(pixels * keep) / touching.clamp_min(1) - tone])
        # Spread over a straight border's edge, 1 / d^3 adds up to 2 / d^2.
        fades = 2 / (side * pixels.new_tensor([TONE_REACH, TEXTURE_REACH])) ** 2
        self._weights = _convolved(self._edge, self._falloff) + fades[:, None, None, None]

    def imposed(self, painted: Tensor) -> Tensor:
        """A painted picture (3, S, S), in the pixels' range, with the known pixels in place and its colours in the hole
        moved, near the border, to meet them.

        As in Poisson image editing (Perez et al., SIGGRAPH 2003, equation 4) what the pixels at the hole's edge miss of
        their known neighbours is spread smoothly into the hole, each band over its own width (Burt and Adelson, A
        Multiresolution Spline, 1983): tone far, and texture, the rest, a pixel or so. Spread as one, the mortar beside a
        painted brick would dye a strip of the wall. The membrane is approximated by weights of 1 / d^3 (Farbman et al.,
        Convolution Pyramids, SIGGRAPH Asia 2011), and fades with the distance.
        """
        tone = self._tone(painted, self._hole)
        missed = self._beside - torch.stack([tone, painted - tone])
        moved = (_convolved(self._edge * missed, self._falloff) / self._weights).sum(0)
        return self._keep * self._pixels + self._hole * (painted + moved)

    def _tone(self, picture: Tensor, side_of_border: Tensor) -> Tensor:
        """The mean colour near each place on one side of the border, (3, S, S): of a band too thin to reach the object
        that is painted into the hole, which need not look like what is around it."""
        counted = self._band * side_of_border
        return _convolved(picture * counted, self._along) / _convolved(counted, self._along).clamp_min(TINY)


@cache
def _falloff(side: int, device: torch.device) -> Tensor:
    """The transform of 1 / d^3; d is to the known pixel, one px beyond the edge's."""
    return torch.fft.rfft2((_squared_distances(side, device) + 1) ** -1.5)


@cache
def _gaussian(deviation: float, side: int, device: torch.device) -> Tensor:
    """The transform of a Gaussian that adds up to 1; its standard deviation is in parts of the side."""
    gaussian = (-_squared_distances(side, device) / (2 * (deviation * side) ** 2)).exp()
    return torch.fft.rfft2(gaussian / gaussian.sum())


def _squared_distances(side: int, device: torch.device) -> Tensor:
    """From the corner of a torus, (2 side, 2 side)."""
    across = torch.arange(2 * side, device=device, dtype=torch.float32)
    squared = torch.minimum(across, 2 * side - across) ** 2
    return squared[:, None] + squared


def _convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """(..., S, S) convolved with a kernel given as its transform; beyond the border it is 0."""
    side = x.shape[-1]
    return torch.fft.irfft2(torch.fft.rfft2(x, (2 * side, 2 * side)) * kernel, (2 * side, 2 * side))[
        ..., :side, :side
    ]


def _neighbours(x: Tensor) -> Tensor:
    """The sum of each pixel's four neighbours; (C, S, S)."""
    p = F.pad(x, (1, 1, 1, 1))
    return p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]
