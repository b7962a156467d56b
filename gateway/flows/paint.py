"""Inpaint and outpaint: one flow on a canvas, whose hole is a mask's or the room around a picture."""

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from gateway.events import Drawn, Event, Indexed, Observe, Progressed, unobserved
from gateway.flows.fan_out import fan_out
from gateway.flows.flow import SEEDS, Flow, decode, encoded
from gateway.ledger import Demand
from gateway.sizes import square
from gateway.stages import Stages
from gateway.stages.budget import Budget
from gateway.stages.decoder import Known
from gateway.stages.text_encoder import EncodedText
from gateway.threads import in_thread
from services.editing.canvas import Canvas, Margins
from services.editing.errors import PictureError
from services.editing.frames import Frame, plan
from services.editing.masks import MaskKind, read_hole
from services.editing.pictures import (
    Header,
    alpha_of,
    rgb,
)
from services.wire.errors import InvalidInput

# An odd constant (the golden ratio's, as in splitmix64) keeps the seeds of a picture's frames apart from its
# neighbours'.
FRAME_STRIDE = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Paint(Flow):
    """What belongs in the hole of a canvas, and the file of the canvas' picture.

    max_frames: it may take to paint. planned: the canvas and its frames, once they are known.
    """

    prompt: str
    picture: bytes
    header: Header
    max_frames: int
    planned: tuple[Canvas, list[Frame]] | None = field(default=None, kw_only=True)
    hole_field: ClassVar[str]  # the request's field that says where to paint
    edits = True

    @property
    def given(self) -> tuple[bytes, ...]:
        """The picture with the hole."""
        return (self.picture,)

    @abc.abstractmethod
    def canvas(self) -> Canvas:
        """Decode the picture and put it on a canvas. Raises InvalidInput."""

    async def prepared(self) -> Self:
        """Decode, and plan the frames, which all pictures share."""
        canvas = await in_thread(self.canvas)
        try:
            frames = await in_thread(plan, canvas.hole, self.max_frames)
        except PictureError as error:
            raise InvalidInput((self.hole_field, str(error))) from None
        return replace(self, planned=(canvas, frames))

    def demands(self) -> tuple[Demand, ...]:
        """Candidates, then the frames; one, as long as they are not planned."""
        frames = self.planned[1] if self.planned else []
        shapes = [square(self.sizes.frame(frame.side)) for frame in frames]
        return self.prior_demand(), self.decoder_demand(*shapes or [square(self.sizes.frame(1))])

    async def run(
        self, stages: Stages, budget: Budget, observe: Observe = unobserved
    ) -> AsyncGenerator[Indexed, None]:
        """Paint the hole, frame by frame. Known pixels stay as they are."""
        assert self.planned is not None
        canvas, frames = self.planned
        options = self.options
        text, before = await encoded(stages, self.prompt, options, budget, *options.text_guidances)
        drawings = [
            (seed, self._draw(canvas, frames, text, stages, budget, seed)) for seed in self.options.seeds
        ]
        async with aclosing(fan_out(drawings, before, observe)) as events:
            async for event in events:
                yield event

    async def _draw(
        self,
        source: Canvas,
        frames: Sequence[Frame],
        text: EncodedText,
        stages: Stages,
        budget: Budget,
        seed: int,
    ) -> AsyncGenerator[Event, None]:
        async with self.sample_prior(stages, text, seed, budget) as prior:
            async for event in prior:
                yield replace(event, frames=len(frames)) if isinstance(event, Progressed) else event
        canvas = await in_thread(source.copy)
        for number, frame in enumerate(frames):
            side = self.sizes.frame(frame.side)
            # Large canvases take a while: not on the event loop.
            known = Known(*await in_thread(canvas.view, frame, side))
            async with stages.decoder.sample(
                prior.result,
                text,
                self.options.decoder,
                seed=(seed + number * FRAME_STRIDE) % SEEDS,
                shape=square(side),
                budget=budget,
                known=known,
            ) as decoder:
                async for event in decoder:
                    if isinstance(event, Progressed):
                        event = replace(event, frame=number, frames=len(frames))
                    yield event
            await in_thread(canvas.paint, frame, decoder.result)
        yield Drawn(canvas.result)


@dataclass(frozen=True)
class Inpaint(Paint):
    """The hole is a mask's, or the picture's own transparency.

    Size: the shorter side of the result; 0: the picture's.
    """

    hole_field = "mask"
    mask: bytes
    mask_header: Header | None
    mask_kind: MaskKind
    size: int

    def canvas(self) -> Canvas:
        """The picture with its hole, at the size asked for."""
        picture = decode(self.picture, self.header, "picture")
        mask = None if self.mask_header is None else decode(self.mask, self.mask_header, "mask")
        try:
            hole = read_hole(mask, picture, self.mask_kind)
        except PictureError as error:
            raise InvalidInput(("mask", str(error))) from None
        canvas = Canvas(rgb(picture), hole, alpha_of(picture))
        return canvas.scaled(self.size) if self.size else canvas


@dataclass(frozen=True)
class Outpaint(Paint):
    """The hole is the room around the picture. Where the picture is transparent, it stays so."""

    hole_field = "margins"
    margins: Margins

    def canvas(self) -> Canvas:
        """The picture with room around it."""
        picture = decode(self.picture, self.header, "picture")
        return Canvas.extended(rgb(picture), self.margins, alpha_of(picture))
