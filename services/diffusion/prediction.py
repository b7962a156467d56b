"""What a network predicts, turned into the clean sample and the noise, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from services.diffusion.schedule import Schedule

PredictionName = Literal["epsilon", "sample", "v"]


@dataclass(frozen=True)
class Prediction:
    """One evaluation for one row: the clean sample x0, and the variance where the network learns it.

    variance: in [-1, 1]; places the log variance between its bounds (arXiv 2102.09672, equation 15).
    """

    x0: Tensor
    variance: Tensor | None = None


def to_x0(output: Tensor, x: Tensor, alpha_bar: float, kind: PredictionName) -> Tensor:
    """The clean sample that a network's output implies at signal level ``alpha_bar``; same shape as x.

    v = sqrt(abar) noise - sqrt(1 - abar) x0 (arXiv 2202.00512, appendix D).
    """
    signal = alpha_bar**0.5
    noise = (1 - alpha_bar) ** 0.5
    if kind == "sample":
        return output
    if kind == "epsilon":
        return (x - noise * output) / signal
    return signal * x - noise * output


def x0_weight(schedule: Schedule, t: Tensor, cap: float = 5.0) -> Tensor:
    """The weight of a squared error in x0 at each timestep, shape of t: min(SNR + 1, cap).

    SNR + 1 makes the error in x0 the error in v (arXiv 2202.00512, section 4). The cap is min-SNR's (arXiv
    2303.09556): without it nearly clean samples would take all of the gradient.
    """
    signal, sigma = schedule.levels(t)
    return (signal / sigma.clamp_min(1e-4)).square().add(1).clamp_max(cap)
