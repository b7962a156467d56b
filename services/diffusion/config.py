"""How a network was trained and is best sampled; part of every stage's config in the bundle."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.diffusion.prediction import PredictionName
from services.diffusion.samplers import SamplerName
from services.diffusion.schedule import TRAIN_STEPS, ScheduleName


class SamplingConfig(BaseModel):
    """The sampler, and what a request that does not say gets: steps and guidance (1 is none).

    guidance_interval: the share of the timesteps, from clean to noise, within which guidance applies (arXiv 2404.07724);
    outside it a row costs one evaluation instead of two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: SamplerName = "ancestral"
    steps: int = Field(default=25, ge=1)
    guidance: float = Field(default=1.0, ge=0)
    guidance_interval: tuple[float, float] = (0.0, 1.0)

    def guidance_at(self, t: int, guidance: float) -> float:
        """The guidance of a row that asks for ``guidance``, at timestep t."""
        low, high = self.guidance_interval
        return guidance if low <= t / (TRAIN_STEPS - 1) <= high else 1.0


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
