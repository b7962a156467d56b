"""Vary: image encoder -> decoder and upsamplers.

It begins from noise or, the more similar the results are to be, from the picture.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from gateway.events import Drawn, Event, Indexed, Observe, Timed, Warned, text_cut, unobserved
from gateway.flows.embeddings import turned
from gateway.flows.fan_out import fan_out
from gateway.flows.flow import Flow, decode, encoded
from gateway.ledger import Demand
from gateway.sizes import Shape, square
from gateway.stages import Stages
from gateway.stages.budget import Budget
from gateway.stages.decoder import Start
from gateway.stages.text_encoder import Embedding, EncodedText
from gateway.threads import in_thread
from services.editing.pictures import Header, Pixels, centre_of, reduced


@dataclass(frozen=True)
class Change:
    """What is to become different, in words: from one text to another, and how far, in [0, 1]."""

    from_text: str
    to_text: str
    strength: float


@dataclass(frozen=True)
class Vary(Flow):
    """A picture's file and its checked header.

    How similar to stay, in [0, 1]; the shape of the results; what is to change.
    """

    picture: bytes
    header: Header
    similarity: float
    shape: Shape
    change: Change | None = None

    @property
    def given(self) -> tuple[bytes, ...]:
        """The picture that is varied."""
        return (self.picture,)

    def demands(self) -> tuple[Demand, ...]:
        """One picture; the more similar, the fewer steps of the base network."""
        base, *raised = self.decoder_steps(self.sizes.drawn_for(self.shape))
        steps = max(1, round(base.steps * (1 - self.similarity)))
        return (Demand("decoder", ((replace(base, steps=steps), *raised),)),)

    async def run(
        self, stages: Stages, budget: Budget, observe: Observe = unobserved
    ) -> AsyncGenerator[Indexed, None]:
        """Draw pictures like the given one."""
        shape = self.sizes.drawn_for(self.shape)
        centre, pixels = await in_thread(self._pixels, shape)
        text, before = await encoded(stages, "", self.options, budget, self.options.text_guidances[1])
        started = time.monotonic()
        embedding = await stages.image_encoder.encode(centre, budget)
        before.append(Timed("image_encoder", time.monotonic() - started))
        if self.change is not None:
            embedding, told = await self._changed(embedding, self.change, stages, budget)
            before += told
        start = Start(pixels, self.similarity) if self.similarity > 0 else None
        drawings = [
            (seed, self._draw(embedding, text, start, stages, budget, seed)) for seed in self.options.seeds
        ]
        async with aclosing(fan_out(drawings, before, observe)) as events:
            async for event in events:
                yield event

    async def _changed(
        self, embedding: Embedding, change: Change, stages: Stages, budget: Budget
    ) -> tuple[Embedding, list[Event]]:
        """The embedding, turned along what the texts differ in (DALL-E 2, section 3.3)."""
        texts = await stages.text_encoder.embed([change.from_text, change.to_text], budget)
        words = zip(("from_text", "to_text"), texts.last_words_read, strict=True)
        told: list[Event] = [text_cut(field, word) for field, word in words if word]
        before, after = texts.embeddings
        if np.allclose(before, after):
            return embedding, [*told, Warned("to_text", "says the same as from_text", "no effect")]
        return turned(embedding, after - before, change.strength), told

    def _pixels(self, shape: Shape) -> tuple[Pixels, Pixels]:
        """What the image encoder sees, a square, and what is begun from."""
        picture = decode(self.picture, self.header, "picture")
        begun = centre_of(picture, shape)
        return begun if shape.is_square else centre_of(picture, square(min(shape))), begun

    async def _draw(
        self,
        embedding: Embedding,
        text: EncodedText,
        start: Start | None,
        stages: Stages,
        budget: Budget,
        seed: int,
    ) -> AsyncGenerator[Event, None]:
        shape = self.sizes.drawn_for(self.shape)
        async with stages.decoder.sample(
            embedding, text, self.options.decoder, seed=seed, shape=shape, budget=budget, start=start
        ) as decoder:
            async for event in decoder:
                yield event
        yield Drawn(await in_thread(reduced, decoder.result, self.shape))
