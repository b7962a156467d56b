"""Measures of pictures and of the judge's verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from services.training.evaluation import judge as judging
from services.training.evaluation.judge import Verdicts
from services.training.evaluation.painter import Pictures

SEAM_BAND = 6  # columns on each side that a seam is compared with
BLOCKS = 8  # in a picture's height, whose tones on the two sides of a border are compared


def reduced(picture: Pictures) -> Pictures:
    """(S, S, 3), at the size that the judge looks at."""
    return np.asarray(Image.fromarray(picture).resize((judging.SIDE, judging.SIDE), Image.Resampling.BOX))


def top1(verdicts: Verdicts, wanted: Sequence[int]) -> list[bool]:
    """Whether the judge's first object is the wanted one, for each picture."""
    return (verdicts.objects[:, 0] == torch.tensor(wanted)).tolist()


def frechet(a: Tensor, b: Tensor) -> float:
    """The Frechet distance of Gaussians fitted to two sets of features, (N, F) each.

    arXiv 1706.08500, equation 6.
    """
    a = a.double()
    b = b.double()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    covariance_a = torch.cov(a.T)
    covariance_b = torch.cov(b.T)
    cross = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp_min(0).sqrt().sum()
    return float(gap + covariance_a.trace() + covariance_b.trace() - 2 * cross)


def seam(pictures: Sequence[Pictures], border: int) -> float:
    """The mean gradient across column ``border``, over that across the columns beside it; 1: no seam."""
    across = 0.0
    beside = 0.0
    for picture in pictures:
        columns = picture[:, border - SEAM_BAND - 1 : border + SEAM_BAND + 1].astype(np.float32)
        gradients = np.abs(np.diff(columns, axis=1)).mean((0, 2))
        across += gradients[SEAM_BAND]
        beside += (gradients.sum() - gradients[SEAM_BAND]) / (len(gradients) - 1)
    return float(across / beside)


def step_in_tone(pictures: Sequence[Pictures], border: int) -> float:
    """How far apart (of 255) the colours left and right of column ``border`` are; the mean of all pictures.

    Blocks that meet at the border are compared, all the way down a picture. The median of their differences
    counts, for each channel, so that neither texture nor an object matters.
    """
    steps = []
    for picture in pictures:
        side = len(picture) // BLOCKS
        strip = picture[: side * BLOCKS, border - side : border + side]
        tones = strip.reshape(BLOCKS, side, 2, side, 3).mean((1, 3))
        steps.append(np.abs(np.median(tones[:, 0] - tones[:, 1], axis=0)).mean())
    return float(np.mean(steps))


def roughness(pictures: Pictures) -> float:
    """The mean difference (of 255) of a pixel to the mean of its four neighbours: high in noise."""
    p = pictures.astype(np.float32)
    around = (p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]) / 4
    return float(np.abs(p[:, 1:-1, 1:-1] - around).mean())
