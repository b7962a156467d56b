"""Pictures for evaluation, drawn by the gateway's own flows on the bundle's own stages, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gateway.events import Drawn
from gateway.flows.flow import Flow, Options, Output
from gateway.flows.generate import Generate
from gateway.flows.paint import Inpaint, Outpaint
from gateway.flows.vary import Vary
from gateway.sizes import Sizes, square
from gateway.stages import Stages
from gateway.stages.budget import Budget
from services.decoder.sampler import DecoderSampler
from services.editing.canvas import Canvas, Margins
from services.editing.pictures import Header, encode_picture
from services.training.evaluation.served import ServedStages, serving

Pictures = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
MAX_FRAMES = 100
HOURS = 24 * 3600.0


@dataclass(frozen=True)
class Settings:
    """How pictures are drawn; ``Painter.defaults`` has the bundle's own values."""

    size: int
    candidates: int
    prior_steps: int
    prior_guidance: float
    decoder_steps: int
    decoder_guidance: float
    upsampler_steps: int

    def options(self, seed: int) -> Options:
        """One picture with this seed."""
        return Options(
            n=1,
            seed=seed,
            prior_steps=self.prior_steps,
            prior_guidance=self.prior_guidance,
            decoder_steps=self.decoder_steps,
            decoder_guidance=self.decoder_guidance,
            upsampler_steps=self.upsampler_steps,
            prior_candidates=self.candidates,
            preview_interval=0,
        )


class Painter:
    """Draws batches of pictures; picture i of a call has seed ``seed + i``, whatever the batch."""

    def __init__(self, bundle: Path, threads: int) -> None:
        self._threads = threads
        self._stages = ServedStages(bundle, threads)
        self.version = self._stages.decoder.bundle.manifest.version
        self._sizes = Sizes(self.decoder.sizes, self.decoder.config.native, self.decoder.default_size)

    @property
    def decoder(self) -> DecoderSampler:
        """The decoder's networks, whose configs a report tells."""
        return self._stages.decoder.sampler

    def with_bundle(self, bundle: Path) -> Painter:
        """A painter with another bundle."""
        return Painter(bundle, self._threads)

    def defaults(self, size: int) -> Settings:
        """What a request of this size that says nothing else gets."""
        prior = self._stages.prior.describe().defaults
        decoder = self._stages.decoder.describe().defaults
        return Settings(
            size,
            prior.candidates,
            prior.steps,
            prior.guidance,
            decoder.steps,
            decoder.guidance,
            decoder.upsampler_steps,
        )

    def generate(self, prompts: Sequence[str], settings: Settings, seed: int) -> Pictures:
        """Pictures of prompts: (n, size, size, 3)."""
        flows = [
            Generate(settings.options(seed + i), Output(), str(i), self._sizes, prompt, square(settings.size))
            for i, prompt in enumerate(prompts)
        ]
        return np.stack(self._draw(flows))

    def inpaint(
        self, canvases: Sequence[Canvas], prompts: Sequence[str], settings: Settings, seed: int
    ) -> list[Pictures]:
        """Canvases with their holes painted, each as large as it was."""
        flows = []
        for i, (canvas, prompt) in enumerate(zip(canvases, prompts, strict=True)):
            height, width = canvas.hole.shape
            mask = np.repeat(canvas.hole[..., None], 3, axis=2).astype(np.uint8) * 255
            flows.append(
                Inpaint(
                    options=settings.options(seed + i),
                    output=Output(),
                    request_id=str(i),
                    sizes=self._sizes,
                    prompt=prompt,
                    picture=encode_picture(canvas.pixels),
                    header=Header(width, height),
                    max_frames=MAX_FRAMES,
                    mask=encode_picture(mask),
                    mask_header=Header(width, height),
                    mask_kind="luminance",
                    size=0,
                )
            )
        return self._draw(flows)

    def outpaint(
        self, pictures: Pictures, margins: Margins, prompts: Sequence[str], settings: Settings, seed: int
    ) -> list[Pictures]:
        """Pictures extended past their borders."""
        flows = []
        for i, (pixels, prompt) in enumerate(zip(pictures, prompts, strict=True)):
            height, width = pixels.shape[:2]
            flows.append(
                Outpaint(
                    options=settings.options(seed + i),
                    output=Output(),
                    request_id=str(i),
                    sizes=self._sizes,
                    prompt=prompt,
                    picture=encode_picture(pixels),
                    header=Header(width, height),
                    max_frames=MAX_FRAMES,
                    margins=margins,
                )
            )
        return self._draw(flows)

    def vary(self, pictures: Pictures, similarity: float, settings: Settings, seed: int) -> Pictures:
        """Pictures like the given ones, (n, size, size, 3)."""
        flows = []
        for i, pixels in enumerate(pictures):
            header = Header(pixels.shape[1], pixels.shape[0])
            picture = encode_picture(pixels)
            options = settings.options(seed + i)
            flows.append(
                Vary(
                    options, Output(), str(i), self._sizes, picture, header, similarity, square(settings.size)
                )
            )
        return np.stack(self._draw(flows))

    def _draw(self, flows: Sequence[Flow]) -> list[Pictures]:
        return asyncio.run(self._draw_all(flows))

    async def _draw_all(self, flows: Sequence[Flow]) -> list[Pictures]:
        async with serving(self._stages) as stages:
            return await asyncio.gather(*(_picture(flow, stages) for flow in flows))


async def _picture(flow: Flow, stages: Stages) -> Pictures:
    flow = await flow.prepared()
    async for _, event in flow.run(stages, Budget(HOURS, flow.request_id, is_deadline=False)):
        if isinstance(event, Drawn):
            return event.pixels
    raise AssertionError("a flow ends in a picture")
