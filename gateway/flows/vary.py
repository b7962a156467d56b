"""Vary: image encoder -> decoder and upsamplers.

It begins from noise or, the more similar the results are to be, from the picture.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from gateway.events import Drawn, Event, Indexed, Observe, Timed, unobserved
from gateway.flows.fan_out import fan_out
from gateway.flows.flow import Flow, decode, encoded
from gateway.ledger import Demand
from gateway.stages import Stages
from gateway.stages.budget import Budget
from gateway.stages.decoder import Start
from gateway.stages.text_encoder import Embedding, EncodedText
from gateway.threads import in_thread
from services.editing.pictures import Header, Pixels, centre_square, reduced


@dataclass(frozen=True)
class Vary(Flow):
    """A picture's file and its checked header.

    How similar to stay, in [0, 1]; the side of the results in px.
    """

    picture: bytes
    header: Header
    similarity: float
    size: int

    def demands(self) -> tuple[Demand, ...]:
        """One picture; the more similar, the fewer steps of the base network."""
        base, *raised = self.decoder_steps(self.native(self.size))
        steps = max(1, round(base.steps * (1 - self.similarity)))
        return (Demand("decoder", ((replace(base, steps=steps), *raised),)),)

    async def run(
        self, stages: Stages, budget: Budget, observe: Observe = unobserved
    ) -> AsyncGenerator[Indexed, None]:
        """Draw pictures like the given one."""
        pixels = await in_thread(self._square)
        text, before = await encoded(stages, "", self.options, budget, self.options.decoder_guidance)
        started = time.monotonic()
        embedding = await stages.image_encoder.encode(pixels, budget)
        before.append(Timed("image_encoder", time.monotonic() - started))
        start = Start(pixels, self.similarity) if self.similarity > 0 else None
        draw = partial(self._draw, embedding, text, start, stages, budget)
        async with aclosing(fan_out(self.options, draw, before, observe)) as events:
            async for event in events:
                yield event

    def _square(self) -> Pixels:
        return centre_square(decode(self.picture, self.header, "picture"), self.native(self.size))

    async def _draw(
        self,
        embedding: Embedding,
        text: EncodedText,
        start: Start | None,
        stages: Stages,
        budget: Budget,
        seed: int,
    ) -> AsyncGenerator[Event, None]:
        size = self.native(self.size)
        async with stages.decoder.sample(
            embedding, text, self.options.decoder, seed=seed, size=size, budget=budget, start=start
        ) as decoder:
            async for event in decoder:
                yield event
        yield Drawn(await in_thread(reduced, decoder.result, self.size))
