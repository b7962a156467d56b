"""Puts known pixels in place, and moves painted colours so that they meet them at the border of a hole.

As in Poisson image editing (Perez et al., SIGGRAPH 2003, equation 4), the difference between the pixels at
the hole's edge and their known neighbours is spread smoothly into the hole. It is spread in two bands, each
over its own width (Burt and Adelson, A Multiresolution Spline, 1983): the tone far, and the texture, which is
the rest, about a pixel. Spread as one, the mortar beside a painted brick would dye a strip of the wall. The
membrane of the Poisson equation is approximated by weights of 1 / d^3 (Farbman et al., Convolution Pyramids,
SIGGRAPH Asia 2011), and fades with the distance.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from services.diffusion.samplers import Settle
from services.diffusion.schedule import Schedule

# A tone is a mean around a place at the border. These are the standard deviations of its Gaussian weights,
# across the border and along it, in parts of the picture's side.
BAND = 0.03
ALONG = 0.1
# How deep inside the hole, beside a straight border, half of a correction is left, in parts of the side.
TONE_REACH = 1 / 8
TEXTURE_REACH = 0.025
TINY = 1e-8  # smaller than any sum of weights near a border, larger than the rounding errors of a sum of none


class KnownPixels:
    """What is known of a picture, and the border of its hole; computed once, for all steps.

    pixels: (3, S, S). keep: (1, S, S), 1 where the pixels are known, else 0.
    """

    def __init__(self, pixels: Tensor, keep: Tensor) -> None:
        side = pixels.shape[-1]
        self._pixels = pixels
        self._keep = keep
        self._hole = 1 - keep
        self._along = _gaussian(ALONG, side, pixels.device)
        self._falloff = _falloff(side, pixels.device)
        touching = _neighbours(keep)
        self._edge = self._hole * touching.clamp_max(1)
        self._band = _convolved(self._edge, _gaussian(BAND, side, pixels.device)).clamp_min(0)
        tone = self._tone(pixels, keep)
        self._beside = torch.stack([tone, _neighbours(pixels * keep) / touching.clamp_min(1) - tone])
        # Spread over a straight border's edge, 1 / d^3 adds up to 2 / d^2.
        fades = 2 / (side * pixels.new_tensor([TONE_REACH, TEXTURE_REACH])) ** 2
        self._weights = _convolved(self._edge, self._falloff) + fades[:, None, None, None]

    def imposed(self, painted: Tensor) -> Tensor:
        """The painted picture with the known pixels in place, and its colours moved to meet them.

        painted: (3, S, S), in the known pixels' range. Returns the same shape.
        """
        tone = self._tone(painted, self._hole)
        missing = self._beside - torch.stack([tone, painted - tone])
        correction = (_convolved(self._edge * missing, self._falloff) / self._weights).sum(0)
        return self._keep * self._pixels + self._hole * (painted + correction)

    def _tone(self, picture: Tensor, side_of_border: Tensor) -> Tensor:
        """The mean colour near each place of one side of the border, (3, S, S).

        The band it is taken from is thin. So it seldom reaches an object painted into the hole, which need
        not look like what is around the hole.
        """
        counted = self._band * side_of_border
        return _convolved(picture * counted, self._along) / _convolved(counted, self._along).clamp_min(TINY)


def noised_in(schedule: Schedule, places: Tensor, keep: Tensor, noise: Tensor) -> Settle:
    """The other way: puts what is known, noised as the sample is, in place after each step.

    places, keep, noise: of the sample's shape, or one channel. noise: what the sample began with.
    """

    def settle(x: Tensor, t: int) -> Tensor:
        level = schedule.at(t)
        return keep * (level**0.5 * places + (1 - level) ** 0.5 * noise) + (1 - keep) * x

    return settle


@cache
def _falloff(side: int, device: torch.device) -> Tensor:
    """The Fourier transform of 1 / d^3, where d is the distance to the known pixel, 1 px beyond the edge."""
    return torch.fft.rfft2((_squared_distances(side, device) + 1) ** -1.5)


@cache
def _gaussian(deviation: float, side: int, device: torch.device) -> Tensor:
    """The Fourier transform of a Gaussian that sums to 1; its standard deviation is in parts of the side."""
    gaussian = (-_squared_distances(side, device) / (2 * (deviation * side) ** 2)).exp()
    return torch.fft.rfft2(gaussian / gaussian.sum())


def _squared_distances(side: int, device: torch.device) -> Tensor:
    """Squared distances from the corner of a torus, (2 side, 2 side)."""
    across = torch.arange(2 * side, device=device, dtype=torch.float32)
    squared = torch.minimum(across, 2 * side - across) ** 2
    return squared[:, None] + squared


def _convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """(..., S, S) convolved with a kernel, given as its Fourier transform; outside x there are zeros."""
    side = x.shape[-1]
    padded = (2 * side, 2 * side)
    convolved = torch.fft.irfft2(torch.fft.rfft2(x, padded) * kernel, padded)
    return convolved[..., :side, :side]


def _neighbours(x: Tensor) -> Tensor:
    """The sum of each pixel's four neighbours; (C, S, S)."""
    p = F.pad(x, (1, 1, 1, 1))
    return p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]
