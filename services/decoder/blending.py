"""Colours that meet at the border of a hole."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

BANDS = 32  # of the picture's side; colours are compared in one band on each side of the border
TINY = 1e-6


def blended(x0: Tensor, known: Tensor, keep: Tensor) -> Tensor:
    """A painted picture (3, S, S) whose colours in the hole are moved, near its border, by what they miss of the known ones.

    known: (3, S, S), in the same range; keep: (1, S, S), 1 where it counts. As in Poisson image editing (Perez et al.,
    SIGGRAPH 2003, equation 4) the difference at the border is spread smoothly into the hole; here it is that of means over
    a neighbourhood, so that texture stays, and it fades with the distance. Without a border nothing changes.
    """
    band = max(1, x0.shape[-1] // BANDS)
    hole = 1 - keep
    inside, outside = hole * _grown(keep, band), keep * _grown(hole, band)
    near_inside, near_outside = _blurred(inside, band), _blurred(outside, band)
    missing = _blurred(known * outside, band) / near_outside.clamp_min(TINY) - _blurred(x0 * inside, band) / near_inside.clamp_min(TINY)
    # A straight border's own neighbourhood counts in full, and a little around it.
    weight = (1.3 * near_inside / near_inside.max().clamp_min(TINY)).clamp_max(1)
    return x0 + hole * weight * missing * (near_outside > TINY)


def _grown(mask: Tensor, by: int) -> Tensor:
    return F.max_pool2d(mask[None], 2 * by + 1, 1, by)[0]


def _blurred(x: Tensor, band: int) -> Tensor:
    """Three box filters in each direction, nearly a Gaussian, over what of them is inside the picture."""
    reach = 3 * band // 2
    x = x[None]
    for _ in range(3):
        x = F.avg_pool2d(x, (2 * reach + 1, 1), 1, (reach, 0), count_include_pad=False)
        x = F.avg_pool2d(x, (1, 2 * reach + 1), 1, (0, reach), count_include_pad=False)
    return x[0]
