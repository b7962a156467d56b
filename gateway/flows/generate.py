"""Generate: text -> prior -> decoder -> upsampler."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.flows.request import FlowRequest
from gateway.sample import Made, Report, Sample, sample_all
from gateway.stages import Budget, Stages
from services.editing.pictures import Pixels


@dataclass(frozen=True)
class Generate(FlowRequest):
    """A sentence, and the side of the square pictures of it, in px."""

    prompt: str
    size: int

    async def run(self, stages: Stages, budget: Budget, report: Report) -> list[Made]:
        """Draw pictures of the prompt."""
        shared: dict[str, float] = {}
        text = await self.encode(self.prompt, stages, budget, shared)

        async def make(sample: Sample) -> Pixels:
            embedding = await stages.prior.sample(text, sample)
            return await stages.decoder.sample(embedding, text, sample, size=self.size)

        return await sample_all(make, self.options, budget, report, shared)
