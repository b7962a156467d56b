"""How a network was trained and is best sampled. Part of every network's config in the bundle."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from services.diffusion.prediction import PredictionName
from services.diffusion.samplers import SamplerName
from services.diffusion.schedule import BETAS, TRAIN_STEPS, Schedule, ScheduleName, Spacing, make_schedule


class SamplingConfig(BaseModel):
    """How a network is sampled unless a request says otherwise. A guidance of 1 is none.

    guidance_interval: guidance applies to timesteps in this share of the schedule, 0 being clean and 1 noise
    (arXiv 2404.07724). Outside it a row costs one evaluation instead of two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: SamplerName = "ancestral"
    steps: int = Field(default=25, ge=1)
    guidance: float = Field(default=1.0, ge=0)
    guidance_interval: tuple[float, float] = (0.0, 1.0)

    def guidance_at(self, t: int, guidance: float) -> float:
        """The guidance at timestep t of a row that asks for ``guidance``."""
        low, high = self.guidance_interval
        return guidance if low <= t / (TRAIN_STEPS - 1) <= high else 1.0

    def evaluations_at(self, t: int, guidance: float) -> int:
        """How many evaluations of the network the row's step at timestep t takes: two where it is guided."""
        return 1 if self.guidance_at(t, guidance) == 1.0 else 2

    def guided_share(self, timesteps: Sequence[int]) -> float:
        """Of a guided row's steps at these timesteps, those that take guidance."""
        return sum(self.evaluations_at(t, 2.0) - 1 for t in timesteps) / len(timesteps)


class Threshold(BaseModel):
    """Dynamic thresholding (arXiv 2205.11487, section 2.3): a sample is divided by its quantile.

    It is not where that is below 1, and not by more than ``most``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantile: float = Field(gt=0, le=1)
    most: float = Field(ge=1)


class DiffusionConfig(BaseModel):
    """How a network was trained, and so how it is sampled.

    betas: of a linear schedule. spacing, offset: which timesteps it is sampled at. prediction: what its
    output means. learned_range: its output has variance channels too. clip: the bound of the clean sample's
    values, if there is one; threshold: instead of that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: ScheduleName = "cosine"
    betas: tuple[float, float] = BETAS
    spacing: Spacing = "linspace"
    offset: int = 0
    prediction: PredictionName
    learned_range: bool = False
    clip: float | None = 1.0
    threshold: Threshold | None = None
    sampling: SamplingConfig = SamplingConfig()

    def make_schedule(self) -> Schedule:
        """The schedule it was trained on."""
        return make_schedule(self.schedule, betas=self.betas, spacing=self.spacing, offset=self.offset)

    def bounded(self, x0: Tensor) -> Tensor:
        """A clean sample with its values in their bounds; any shape."""
        if self.threshold is not None:
            quantile = torch.quantile(x0.abs().flatten(), self.threshold.quantile)
            bound = quantile.clamp(1, self.threshold.most)
            return x0.clamp(-bound, bound) / bound
        return self.clipped(x0)

    def clipped(self, x0: Tensor) -> Tensor:
        """The same without thresholding, which is done once a step."""
        return x0 if self.clip is None else x0.clamp(-self.clip, self.clip)
