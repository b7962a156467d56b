"""How a network was trained and is best sampled. Part of every network's config in the bundle."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.diffusion.prediction import PredictionName
from services.diffusion.samplers import SamplerName
from services.diffusion.schedule import TRAIN_STEPS, ScheduleName


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


class DiffusionConfig(BaseModel):
    """How a network was trained, and so how it is sampled.

    prediction: what its output means. learned_range: its output has variance channels too. clip: the bound
    of the clean sample's values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: ScheduleName = "cosine"
    prediction: PredictionName
    learned_range: bool = False
    clip: float = 1.0
    sampling: SamplingConfig = SamplingConfig()
