"""What flows make, as answers of the Images API: whole, or as server-sent events."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from starlette.responses import StreamingResponse
from starlette.types import Send

from gateway import convert
from gateway.events import Drawn, Indexed, Previewed, Warned
from gateway.flows.flow import Flow
from gateway.flows.paint import Inpaint
from gateway.http import schema
from gateway.http.door import Visit
from gateway.http.errors import HttpError, param_of, told_of
from gateway.http.store import Store, new_name
from gateway.images import Images
from gateway.readiness import Model
from gateway.threads import in_thread
from gateway.validation import FlowMessage
from services.editing.canvas import scaled_size
from services.wire.errors import InvalidInput

Kind = Literal["image_generation", "image_edit"]
NO_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


class EventStream(StreamingResponse):
    """Server-sent events. What makes them ends with the answer, however that ends."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        """Send the events."""
        async with aclosing(self._events):
            await super().stream_response(send)


class Answers:
    """Runs flows for requests. address: where callers reach this service, without a slash at its end."""

    def __init__(self, images: Images, store: Store) -> None:
        self._images = images
        self._store = store

    async def whole(
        self, message: FlowMessage, body: schema.Common, visit: Visit, address: str
    ) -> schema.Images:
        """All pictures at once."""
        flow, model = await self._checked(message, body, visit)
        made: dict[int, schema.Image] = {}
        size = ""
        warnings = []
        response_format = body.response_format or self._images.settings.http_response_format
        async with aclosing(self._events(flow, message, visit)) as events:
            async for index, event in events:
                if isinstance(event, Drawn):
                    size = _size(event)
                    made[index] = await self._image(event, flow, model, response_format, address)
                elif isinstance(event, Warned):
                    warnings.append(_warning(event))
        return schema.Images(
            created=int(time.time()),
            data=[made[index] for index in sorted(made)],
            output_format=_format(flow),
            size=size,
            warnings=warnings or None,
        )

    async def streamed(
        self, message: FlowMessage, body: schema.Streamed, visit: Visit, kind: Kind
    ) -> AsyncGenerator[bytes, None]:
        """Events: partial pictures, then each picture when it is completed. Raises before the first one."""
        flow, model = await self._checked(message, body, visit)
        partials = body.partial_images or 0
        interval = -(-flow.options.decoder_steps // (partials + 1)) if partials else 0
        flow = replace(flow, options=replace(flow.options, preview_interval=interval))
        events = self._events(flow, message, visit)
        try:
            first = await anext(events)
        except BaseException:
            await events.aclose()
            raise
        return self._told(first, events, flow, model, visit, kind, partials)

    async def _told(
        self,
        first: Indexed,
        events: AsyncGenerator[Indexed, None],
        flow: Flow,
        model: Model,
        visit: Visit,
        kind: Kind,
        partials: int,
    ) -> AsyncGenerator[bytes, None]:
        seen: dict[int, int] = {}
        signer = self._images.signer
        try:
            async with aclosing(events):
                item: Indexed | None = first
                while item is not None:
                    index, event = item
                    if isinstance(event, Previewed) and seen.get(index, 0) < partials:
                        number = seen.get(index, 0)
                        seen[index] = number + 1
                        data = await in_thread(convert.file_of, event.pixels, flow, model, signer)
                        yield await in_thread(_partial, data, event, index, number, flow, kind)
                    elif isinstance(event, Drawn):
                        data = await in_thread(convert.file_of, event.pixels, flow, model, signer)
                        yield await in_thread(_completed, data, event, index, flow, kind)
                    item = await anext(events, None)
        except Exception as error:
            visit.fail(error)
            yield _event("error", told_of(error).body)
            return
        yield b"data: [DONE]\n\n"

    async def _checked(self, message: FlowMessage, body: schema.Common, visit: Visit) -> tuple[Flow, Model]:
        visit.call.received(message, 0)
        flow, model = await self._images.checked(message)
        asked = schema.sides(body.size)
        if isinstance(flow, Inpaint) and asked is not None:
            gets = scaled_size(flow.header.width, flow.header.height, flow.size)
            if gets != asked:
                raise InvalidInput(("size", f"in the picture's proportions it would be {gets[0]}x{gets[1]}"))
        return flow, model

    def _events(self, flow: Flow, message: FlowMessage, visit: Visit) -> AsyncGenerator[Indexed, None]:
        return self._images.events(flow, visit.call.time_left(), message.ByteSize())

    async def _image(
        self, drawn: Drawn, flow: Flow, model: Model, response_format: str, address: str
    ) -> schema.Image:
        picture = await in_thread(convert.to_picture, drawn, flow, model, self._images.signer)
        if response_format == "b64_json":
            encoded = await in_thread(base64.b64encode, picture.data)
            return schema.Image(b64_json=encoded.decode(), seed=drawn.seed)
        name = new_name(_format(flow))
        await self._store.put(name, picture.data)
        return schema.Image(url=f"{address}/files/{name}", seed=drawn.seed)


def _partial(data: bytes, event: Previewed, index: int, number: int, flow: Flow, kind: Kind) -> bytes:
    height, width = event.pixels.shape[:2]
    return _event(
        f"{kind}.partial_image",
        {
            **_common(data, flow, f"{width}x{height}", index),
            "partial_image_index": number,
        },
    )


def _completed(data: bytes, event: Drawn, index: int, flow: Flow, kind: Kind) -> bytes:
    common = _common(data, flow, _size(event), index)
    return _event(f"{kind}.completed", {**common, "usage": NO_USAGE, "seed": event.seed})


def _common(data: bytes, flow: Flow, size: str, index: int) -> dict[str, Any]:
    return {
        "b64_json": base64.b64encode(data).decode(),
        "created_at": int(time.time()),
        "output_format": _format(flow),
        "size": size,
        "quality": "auto",
        "background": "opaque",
        "picture_index": index,
    }


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields if kind == "error" else {"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {text}\n\n".encode()


def _format(flow: Flow) -> schema.Format:
    formats: dict[str, schema.Format] = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}
    return formats[flow.output.form]


def _size(drawn: Drawn) -> str:
    height, width = drawn.pixels.shape[:2]
    return f"{width}x{height}"


def _warning(event: Warned) -> str:
    return f"{param_of(event.field)}: {event.message}"


def missing(path: str) -> HttpError:
    """The error for a path that is not there."""
    return HttpError(404, f"{path:.200} is not here", name="not_found")
