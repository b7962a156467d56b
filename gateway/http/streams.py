"""Server-sent events: what is told of a request on its way, and signs of life."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from gateway import convert
from gateway.events import Drawn, Event, Previewed, Progressed, Queued, Warned
from gateway.flows.flow import Flow
from gateway.http.errors import event_of, param_of
from gateway.http.schema import Format
from gateway.provenance import Signer
from gateway.readiness import Model
from gateway.threads import in_thread

Kind = Literal["image_generation", "image_edit"]
FORMATS: dict[str, Format] = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}
DONE = b"data: [DONE]\n\n"
PING_SECONDS = 15.0  # proxies close connections on which nothing comes for a minute
PING = b": still at work\n\n"  # a comment, which clients skip
# Proxies are to pass events on as they come.
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
NO_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


class EventStream(StreamingResponse):
    """Server-sent events, with a sign of life now and then.

    close: ends what makes them. It is called when the answer ends, however that is, even if it never began.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=HEADERS)
        self._events = events
        self._close = close

    async def stream_response(self, send: Send) -> None:
        """Send the events."""
        turn = asyncio.Lock()
        pings = asyncio.ensure_future(_ping(send, turn))

        async def send_in_turn(message: Message) -> None:
            async with turn:
                if message["type"] == "http.response.body" and not message.get("more_body", False):
                    pings.cancel()
                await send(message)

        try:
            async with aclosing(self._events):
                await super().stream_response(send_in_turn)
        finally:
            pings.cancel()
            await self._close()


async def _ping(send: Send, turn: asyncio.Lock) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        async with turn:
            await send({"type": "http.response.body", "body": PING, "more_body": True})


@dataclass
class Narrator:
    """Tells what happens to one request's pictures.

    kind: what its events' names begin with. partials: how many pictures on the way each picture has at most.
    progress: whether its place in the queue and its steps are told too.
    """

    flow: Flow
    model: Model
    signer: Signer | None
    kind: Kind
    partials: int
    progress: bool
    _seen: dict[int, int] = field(default_factory=dict)
    _warnings: list[str] = field(default_factory=list)

    async def told(self, index: int, event: Event) -> bytes | None:
        """The event of picture ``index``; None for one that callers are not told of."""
        if isinstance(event, Previewed):
            return await self._partial(index, event)
        if isinstance(event, Drawn):
            return await self._completed(index, event)
        if isinstance(event, Warned):
            self._warnings.append(warning_of(event))
        if not self.progress:
            return None
        if isinstance(event, Queued):
            return self._event("queued", picture_index=index, stage=event.stage, position=event.position)
        if isinstance(event, Progressed):
            return self._event(
                "progress",
                picture_index=index,
                stage=event.stage,
                step=event.step,
                steps=event.steps,
                frame=event.frame,
                frames=event.frames,
            )
        return None

    async def _partial(self, index: int, event: Previewed) -> bytes | None:
        number = self._seen.get(index, 0)
        if number >= self.partials:
            return None
        self._seen[index] = number + 1
        return await in_thread(self._picture, "partial_image", index, event, {"partial_image_index": number})

    async def _completed(self, index: int, event: Drawn) -> bytes:
        more: dict[str, Any] = {"usage": NO_USAGE, "seed": event.seed}
        if self._warnings:
            more["warnings"] = self._warnings
        return await in_thread(self._picture, "completed", index, event, more)

    def _picture(self, name: str, index: int, event: Previewed | Drawn, more: dict[str, Any]) -> bytes:
        seed = event.seed if isinstance(event, Drawn) else None
        data = convert.file_of(event.pixels, self.flow, self.model, self.signer, seed=seed)
        return self._event(
            name,
            b64_json=base64.b64encode(data).decode(),
            created_at=int(time.time()),
            output_format=FORMATS[self.flow.output.form],
            size=size_of(event),
            quality="auto",
            background="opaque",
            picture_index=index,
            **more,
        )

    def _event(self, name: str, **fields: Any) -> bytes:
        kind = f"{self.kind}.{name}"
        return event_of(kind, {"type": kind, **fields})


def size_of(event: Drawn | Previewed) -> str:
    """A picture's size, as the API writes it."""
    height, width = event.pixels.shape[:2]
    return f"{width}x{height}"


def warning_of(event: Warned) -> str:
    """A warning, in words."""
    return f"{param_of(event.field)}: {event.message}"
