"""How a network was trained and is best sampled; part of every stage's config in the bundle."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.diffusion.prediction import PredictionName
from services.diffusion.samplers import SamplerName
from services.diffusion.schedule import ScheduleName


class SamplingConfig(BaseModel):
    """The sampler, and what a request that does not say gets: steps and guidance (1 is none)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: SamplerName = "ancestral"
    steps: int = Field(default=25, ge=1)
    guidance: float = Field(default=1.0, ge=0)


class DiffusionConfig(BaseModel):
    """How a network was trained, and so how it is sampled.

    prediction: what the output means; learned_range: whether it carries variance channels; clip: bound of x0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: ScheduleName = "cosine"
    prediction: PredictionName
    learned_range: bool = False
    clip: float = 1.0
    sampling: SamplingConfig = SamplingConfig()
