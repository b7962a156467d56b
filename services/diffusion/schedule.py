"""Noise schedules of variance-preserving diffusion: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

TRAIN_STEPS = 1000
ScheduleName = Literal["cosine", "linear"]
Spacing = Literal["linspace", "leading", "trailing"]
BETAS = (1e-4, 0.02)


@dataclass(frozen=True)
class Schedule:
    """The cumulative signal level of every training timestep: ``alpha_bar``, float64, shape (steps,).

    spacing, offset: which of the timesteps are sampled at, see ``spaced_timesteps``.
    """

    alpha_bar: Tensor
    spacing: Spacing = "linspace"
    offset: int = 0

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def at(self, t: int) -> float:
        """abar_t; t = -1 stands for the clean picture, where it is 1."""
        return float(self.alpha_bar[t]) if t >= 0 else 1.0

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(abar_t), sqrt(1 - abar_t)) for integer timesteps of shape (B,), float32."""
        alpha_bar = self.alpha_bar.to(t.device)[t]
        return alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()


def make_schedule(
    name: ScheduleName,
    steps: int = TRAIN_STEPS,
    *,
    betas: tuple[float, float] = BETAS,
    spacing: Spacing = "linspace",
    offset: int = 0,
) -> Schedule:
    """Build a schedule by name.

    cosine: beta_i = min(1 - f((i+1)/T) / f(i/T), 0.999), f(u) = cos^2((u + 0.008) / 1.008 * pi / 2)
    (arXiv 2102.09672, equation 17); linear: beta from the first of ``betas`` to the second (arXiv 2006.11239,
    section 4). Raises ValueError for an unknown name.
    """
    if name == "cosine":
        f = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        noise = torch.tensor([min(1 - f[i + 1] / f[i], 0.999) for i in range(steps)], dtype=torch.float64)
    elif name == "linear":
        noise = torch.linspace(*betas, steps, dtype=torch.float64)
    else:
        raise ValueError(f"schedule: {name!r} is unknown; allowed are cosine, linear")
    return Schedule(torch.cumprod(1 - noise, dim=0), spacing, offset)


def spaced_timesteps(schedule: Schedule, steps: int, *, start: float = 1.0) -> list[int]:
    """``steps`` timesteps from the noisiest down, evenly spaced (arXiv 2305.08891, table 2).

    linspace: from T-1 to 0, round(i (T-1) / (N-1)), reversed. leading: multiples of T // N, plus the offset.
    trailing: T-1 and down from there, no step at the clean end. start: below 1 the steps begin at timestep
    start * (T-1). Their spacing stays about the same, so there are fewer of them, at least one. That is how a
    variation keeps its source.
    """
    top = round(start * (len(schedule) - 1))
    if schedule.spacing == "leading":
        found = [i * (len(schedule) // steps) + schedule.offset for i in reversed(range(steps))]
        return [t for t in found if t <= top] or found[-1:]
    count = max(1, round(start * steps))
    if schedule.spacing == "trailing":
        return [round(top + 1 - i * (top + 1) / count) - 1 for i in range(count)]
    return [top] if count == 1 else [round(i * top / (count - 1)) for i in reversed(range(count))]
