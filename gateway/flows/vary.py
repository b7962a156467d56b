"""Vary: image encoder -> decoder -> upsampler, from fresh noise or, the more similar it is to be, from the picture."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gateway.flows.request import FlowRequest
from gateway.sample import Made, Report, Sample, sample_all
from gateway.stages import Budget, Stages, Start
from services.editing.pictures import Pixels


@dataclass(frozen=True)
class Vary(FlowRequest):
    """A picture, (size, size, 3); how similar to stay, in [0, 1]; the side of the results in px."""

    picture: Pixels
    similarity: float
    size: int

    async def run(self, stages: Stages, budget: Budget, report: Report) -> list[Made]:
        """Draw pictures like the given one."""
        shared: dict[str, float] = {}
        text = await self.encode("", stages, budget, shared)
        started = time.monotonic()
        embedding = await stages.image_encoder.encode(self.picture, budget)
        shared["image_encoder"] = time.monotonic() - started
        start = Start(self.picture, self.similarity) if self.similarity > 0 else None

        async def make(sample: Sample) -> Pixels:
            return await stages.decoder.sample(embedding, text, sample, size=self.size, start=start)

        return await sample_all(make, self.options, budget, report, shared)
