"""Colours that meet at the border of a hole."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

BANDS = 32  # of the picture's side; colours are compared in one band on each side of the border
TINY = 1e-6


class Border:
    """The border between what is known of a picture and its hole; computed once, for all steps.

    known: (3, S, S); keep: (1, S, S), 1 where it counts.
    """

    def __init__(self, known: Tensor, keep: Tensor) -> None:
        self._band = max(1, known.shape[-1] // BANDS)
        hole = 1 - keep
        self._inside, outside = hole * self._grown(keep), keep * self._grown(hole)
        near, near_outside = self._blurred(self._inside), self._blurred(outside)
        self._near = near.clamp_min(TINY)
        self._known = self._blurred(known * outside) / near_outside.clamp_min(TINY)
        # A straight border's own neighbourhood counts in full, and a little around it.
        self._weight = hole * (1.3 * near / near.max().clamp_min(TINY)).clamp_max(1) * (near_outside > TINY)

    def blended(self, x0: Tensor) -> Tensor:
        """A painted picture (3, S, S), in known's range, whose colours in the hole are moved, near its border, by what they
        miss of the known ones.

        As in Poisson image editing (Perez et al., SIGGRAPH 2003, equation 4) the difference at the border is spread
        smoothly into the hole; here it is that of means over a neighbourhood, so that texture stays, and it fades with the
        distance. Without a border nothing changes.
        """
        return x0 + self._weight * (self._known - self._blurred(x0 * self._inside) / self._near)

    def _grown(self, mask: Tensor) -> Tensor:
        return F.max_pool2d(mask[None], 2 * self._band + 1, 1, self._band)[0]

    def _blurred(self, x: Tensor) -> Tensor:
        """Three box filters in each direction, nearly a Gaussian, over what of them is inside the picture."""
        reach = 3 * self._band // 2
        x = x[None]
        for _ in range(3):
            x = F.avg_pool2d(x, (2 * reach + 1, 1), 1, (reach, 0), count_include_pad=False)
            x = F.avg_pool2d(x, (1, 2 * reach + 1), 1, (0, reach), count_include_pad=False)
        return x[0]
