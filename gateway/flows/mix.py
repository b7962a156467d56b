"""Mix and interpolate: pictures and prompts become one image embedding, which the decoder draws.

Kandinsky's users mix so; interpolation is DALL-E 2's (arXiv 2204.06125, section 3.2).
"""

from __future__ import annotations

import abc
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import ClassVar

from gateway.events import Drawn, Event, Indexed, Observe, Timed, unobserved
from gateway.flows.embeddings import spherical_mean
from gateway.flows.fan_out import fan_out
from gateway.flows.flow import SEEDS, Flow, PriorSampling, decode, encoded
from gateway.ledger import Demand
from gateway.sizes import Shape, square
from gateway.stages import Stages
from gateway.stages.budget import Budget
from gateway.stages.text_encoder import Embedding, EncodedText
from gateway.threads import in_thread
from services.editing.pictures import Header, Pixels, centre_of, reduced

SOURCE_STRIDE = 0xD1B54A32D192ED03  # odd: keeps the seeds of a request's prompts apart


@dataclass(frozen=True)
class Source:
    """A prompt, or a picture's file with its checked header. field: what the request calls it."""

    field: str
    prompt: str = ""
    picture: bytes = b""
    header: Header | None = None


@dataclass(frozen=True)
class Blend(Flow):
    """Sources, and the shape of the pictures made of them."""

    sources: tuple[Source, ...]
    shape: Shape
    shares_noise: ClassVar[bool] = False  # all pictures: so each prompt is sampled once for all of them

    @property
    def given(self) -> tuple[bytes, ...]:
        """The pictures among the sources."""
        return tuple(source.picture for source in self.sources if source.header)

    def demands(self) -> tuple[Demand, ...]:
        """Candidates for each prompt, then one picture."""
        decoder = self.decoder_demand(self.sizes.drawn_for(self.shape))
        return (self.prompts_demand(), decoder) if self.prompts else (decoder,)

    @property
    def prompts(self) -> int:
        """Sources that are prompts."""
        return sum(source.header is None for source in self.sources)

    def prompts_demand(self) -> Demand:
        """What each picture needs of the prior."""
        prior = self.prior_demand()
        return Demand("prior", prior.frames * self.prompts, prior.rows)

    async def run(
        self, stages: Stages, budget: Budget, observe: Observe = unobserved
    ) -> AsyncGenerator[Indexed, None]:
        """Draw pictures of what the sources have in common."""
        options = self.options
        text, before = await encoded(stages, "", options, budget, *options.text_guidances[not self.prompts :])
        known: list[Embedding | EncodedText] = []
        for source in self.sources:
            found, told = await self._understood(source, stages, budget)
            known.append(found)
            before += [event for event in told if isinstance(event, Timed) or event not in before]
        if self.shares_noise:
            for number, found in enumerate(known):
                if isinstance(found, EncodedText):
                    async with self._sampled(found, number, options.seed, stages, budget) as prior:
                        async for event in prior:
                            observe(0, event)
                            before.append(event)
                    known[number] = prior.result
        drawings = [
            (seed, self._draw(index, seed, known, text, stages, budget))
            for index, seed in enumerate(self.seeds)
        ]
        async with aclosing(fan_out(drawings, before, observe)) as events:
            async for item in events:
                yield item

    @property
    @abc.abstractmethod
    def seeds(self) -> Sequence[int]:
        """Of each picture."""

    @abc.abstractmethod
    def weights(self, index: int) -> Sequence[float]:
        """Of the sources, in picture ``index``."""

    async def _understood(
        self, source: Source, stages: Stages, budget: Budget
    ) -> tuple[Embedding | EncodedText, list[Event]]:
        """A picture's embedding, or a prompt's conditioning, and what there is to tell of it."""
        if source.header is None:
            return await encoded(stages, source.prompt, self.options, budget, field=source.field)
        pixels = await in_thread(_square, source, self.sizes.made_for)
        started = time.monotonic()
        embedding = await stages.image_encoder.encode(pixels, budget)
        return embedding, [Timed("image_encoder", time.monotonic() - started)]

    def _sampled(
        self, text: EncodedText, number: int, seed: int, stages: Stages, budget: Budget
    ) -> PriorSampling:
        """Candidates for the prompt that is source ``number``."""
        return self.sample_prior(stages, text, (seed + number * SOURCE_STRIDE) % SEEDS, budget)

    async def _draw(
        self,
        index: int,
        seed: int,
        known: Sequence[Embedding | EncodedText],
        text: EncodedText,
        stages: Stages,
        budget: Budget,
    ) -> AsyncGenerator[Event, None]:
        embeddings: list[Embedding] = []
        weights = self.weights(index)
        for number, found in enumerate(known):
            if not weights[number]:
                continue
            if isinstance(found, EncodedText):
                async with self._sampled(found, number, seed, stages, budget) as prior:
                    async for event in prior:
                        yield event
                embeddings.append(prior.result)
            else:
                embeddings.append(found)
        mixed = spherical_mean(embeddings, [weight for weight in weights if weight])
        shape = self.sizes.drawn_for(self.shape)
        async with stages.decoder.sample(
            mixed, text, self.options.decoder, seed=seed, shape=shape, budget=budget
        ) as decoder:
            async for event in decoder:
                yield event
        yield Drawn(await in_thread(reduced, decoder.result, self.shape))


@dataclass(frozen=True)
class Mix(Blend):
    """Sources by their shares, in every picture."""

    shares: tuple[float, ...]

    @property
    def seeds(self) -> Sequence[int]:
        """One after another."""
        return self.options.seeds

    def weights(self, index: int) -> Sequence[float]:
        """The same in all."""
        return self.shares


@dataclass(frozen=True)
class Interpolate(Blend):
    """The way from the first source to the second, in as many pictures as the options say.

    All have the same seed, so that nothing changes but what is drawn.
    """

    shares_noise = True

    def prompts_demand(self) -> Demand:
        """What the prior does once for all pictures, spread over them."""
        prior = self.prior_demand()
        ((steps,),) = prior.frames
        share = math.ceil(steps.steps * self.prompts / self.options.n)
        return Demand("prior", ((replace(steps, steps=share),),), prior.rows)

    @property
    def seeds(self) -> Sequence[int]:
        """The same for all."""
        return [self.options.seed] * self.options.n

    def weights(self, index: int) -> Sequence[float]:
        """All of the first at the beginning, all of the second at the end."""
        share = index / (self.options.n - 1)
        return 1 - share, share


def _square(source: Source, side: int) -> Pixels:
    assert source.header is not None
    return centre_of(decode(source.picture, source.header, source.field), square(side))
