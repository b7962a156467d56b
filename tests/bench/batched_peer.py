"""``diffusers`` behind Ray Serve as its users put it there: one replica, ``@serve.batch``, pictures by HTTP.

It gets what makes it fastest here without a compiler: all cores, bfloat16 where the processor has it,
channels last, and a thread beside its event loop. A batch may hold requests of several sizes and step counts:
each kind is drawn in one call of the pipeline.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tests.bench.peers_model import PARTS

BATCH = 8
WAIT = 0.05  # seconds that a batch is waited for
GUIDANCE = 4.0
PRIOR_STEPS = 5


@dataclass(frozen=True)
class Kind:
    """What pictures of one call have in common."""

    size: int
    steps: int


class Pipelines:
    """Prior and decoder of a folder."""

    def __init__(self, folder: Path, dtype: str, *, channels_last: bool, compiled: bool = False) -> None:
        import torch
        from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

        torch.set_num_threads(os.cpu_count() or 1)
        kind = getattr(torch, dtype)
        self.prior, self.decoder = (
            made.from_pretrained(folder / part, torch_dtype=kind)
            for made, part in zip((KandinskyV22PriorPipeline, KandinskyV22Pipeline), PARTS, strict=True)
        )
        for pipeline in (self.prior, self.decoder):
            pipeline.set_progress_bar_config(disable=True)
        if channels_last:
            self.decoder.unet.to(memory_format=torch.channels_last)
            self.decoder.movq.to(memory_format=torch.channels_last)
        if compiled:
            self.decoder.unet = torch.compile(self.decoder.unet)
            self.prior.prior = torch.compile(self.prior.prior)

    def draw(self, prompts: list[str], kind: Kind) -> list[Any]:
        """A picture for each prompt."""
        embeds = self.prior(prompts, num_inference_steps=PRIOR_STEPS, guidance_scale=GUIDANCE)
        drawn = self.decoder(
            **embeds,
            height=kind.size,
            width=kind.size,
            num_inference_steps=kind.steps,
            guidance_scale=GUIDANCE,
        )
        pictures: list[Any] = drawn.images
        return pictures


def build(folder: Path, dtype: str) -> Any:
    """The application of Ray Serve."""
    from ray import serve

    class Batched:
        def __init__(self) -> None:
            self._pipelines = Pipelines(folder, dtype, channels_last=True)

        @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)  # type: ignore[untyped-decorator]
        async def draw(self, asked: list[tuple[str, Kind]]) -> list[bytes]:
            return await asyncio.to_thread(self._drawn, asked)

        def _drawn(self, asked: list[tuple[str, Kind]]) -> list[bytes]:
            places = defaultdict(list)
            for place, (_, kind) in enumerate(asked):
                places[kind].append(place)
            files = [b""] * len(asked)
            for kind, own in places.items():
                pictures = self._pipelines.draw([asked[place][0] for place in own], kind)
                for place, picture in zip(own, pictures, strict=True):
                    file = io.BytesIO()
                    picture.save(file, "PNG", compress_level=1)
                    files[place] = file.getvalue()
            return files

        async def __call__(self, request: Request) -> Response:
            asked = await request.json()
            file = await self.draw((asked["prompt"], Kind(asked["size"], asked["steps"])))
            return Response(file, media_type="image/png")

    options = {"max_ongoing_requests": 1024, "ray_actor_options": {"num_cpus": 1}}
    return serve.deployment(**options)(Batched).bind()
