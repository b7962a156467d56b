"""Generate: text encoder -> prior -> decoder and upsamplers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from gateway.events import Drawn, Event, Indexed, Observe, unobserved
from gateway.flows.fan_out import fan_out
from gateway.flows.flow import Flow, encoded
from gateway.ledger import Demand
from gateway.sizes import Shape
from gateway.stages import Stages
from gateway.stages.budget import Budget
from gateway.stages.text_encoder import EncodedText
from gateway.threads import in_thread
from services.editing.pictures import reduced


@dataclass(frozen=True)
class Generate(Flow):
    """A sentence, and the shape of the pictures of it."""

    prompt: str
    shape: Shape

    def demands(self) -> tuple[Demand, ...]:
        """Candidates, then one picture."""
        return self.prior_demand(), self.decoder_demand(self.sizes.drawn_for(self.shape))

    async def run(
        self, stages: Stages, budget: Budget, observe: Observe = unobserved
    ) -> AsyncGenerator[Indexed, None]:
        """Draw pictures of the prompt."""
        options = self.options
        text, before = await encoded(stages, self.prompt, options, budget, *options.text_guidances)
        drawings = [(seed, self._draw(text, stages, budget, seed)) for seed in self.options.seeds]
        async with aclosing(fan_out(drawings, before, observe)) as events:
            async for event in events:
                yield event

    async def _draw(
        self, text: EncodedText, stages: Stages, budget: Budget, seed: int
    ) -> AsyncGenerator[Event, None]:
        async with self.sample_prior(stages, text, seed, budget) as prior:
            async for event in prior:
                yield event
        shape = self.sizes.drawn_for(self.shape)
        async with stages.decoder.sample(
            prior.result, text, self.options.decoder, seed=seed, shape=shape, budget=budget
        ) as decoder:
            async for event in decoder:
                yield event
        yield Drawn(await in_thread(reduced, decoder.result, self.shape))
