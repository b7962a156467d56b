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


def roughness(pictures: Pictures) -> float:
    """The mean difference (of 255) of a pixel to the mean of its four neighbours: high in noise."""
    p = pictures.astype(np.float32)
    around = (p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]) / 4
    return float(np.abs(p[:, 1:-1, 1:-1] - around).mean())
