"""Inpaint and outpaint: the same flow on a canvas, whose hole is a mask's or the room around a picture."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from gateway.flows.request import FlowRequest
from gateway.sample import Made, Report, Sample, sample_all
from gateway.stages import Budget, Known, Stages
from services.editing.canvas import Canvas
from services.editing.pictures import Pixels


@dataclass(frozen=True)
class Paint(FlowRequest):
    """What belongs in the hole of a canvas, and the sides in px of the frames that the decoder can paint."""

    prompt: str
    canvas: Canvas
    sizes: tuple[int, ...]

    async def run(self, stages: Stages, budget: Budget, report: Report) -> list[Made]:
        """Paint the hole, frame by frame until nothing of it is left; known pixels stay as they are."""
        shared: dict[str, float] = {}
        text = await self.encode(self.prompt, stages, budget, shared)
        side = self.canvas.frame_size(self.sizes)

        async def make(sample: Sample) -> Pixels:
            embedding = await stages.prior.sample(text, sample)
            canvas = Canvas(self.canvas.pixels, self.canvas.hole)
            for number in itertools.count():
                # Large canvases take a while: not on the event loop.
                frame = await asyncio.to_thread(canvas.next_frame)
                if frame is None:
                    break
                known = Known(*await asyncio.to_thread(canvas.view, frame, side))
                painted = await stages.decoder.sample(
                    embedding, text, sample.for_frame(number), size=side, known=known
                )
                await asyncio.to_thread(canvas.paint, frame, painted)
            return canvas.pixels

        return await sample_all(make, self.options, budget, report, shared)
