"""``diffusers`` behind Ray Serve as its users put it there: one replica, ``@serve.batch``, pictures by HTTP.

It gets what makes it fastest here without a compiler: all cores, bfloat16 where the processor has it,
channels last, and a thread beside its event loop. A batch may hold requests of several sizes and step counts:
each kind is drawn in one call of the pipeline.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tests.bench.pipelines import Kandinsky
from tests.bench.trace import Kind

BATCH = 8
WAIT = 0.05  # seconds that a batch is waited for


def build(folder: Path, dtype: str) -> Any:
    """The application of Ray Serve."""
    from ray import serve

    class Batched:
        def __init__(self) -> None:
            self._pipelines = Kandinsky(folder, dtype, channels_last=True)

        @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)  # type: ignore[untyped-decorator]
        async def draw(self, asked: list[tuple[str | bytes, Kind]]) -> list[bytes]:
            return await asyncio.to_thread(self._drawn, asked)

        def _drawn(self, asked: list[tuple[str | bytes, Kind]]) -> list[bytes]:
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
            given = asked.pop("prompt")
            if picture := asked.pop("picture"):
                given = base64.b64decode(picture)
            return Response(await self.draw((given, Kind(**asked))), media_type="image/png")

    options = {"max_ongoing_requests": 1024, "ray_actor_options": {"num_cpus": 1}}
    return serve.deployment(**options)(Batched).bind()
