"""What flows make, as answers of the Images API: whole, or as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from gateway import convert
from gateway.events import Drawn, Indexed, Warned
from gateway.flows.flow import Flow
from gateway.flows.paint import Inpaint
from gateway.http import schema
from gateway.http.door import Visit
from gateway.http.errors import HttpError, told_of
from gateway.http.store import Store, new_name
from gateway.http.streams import DONE, FORMATS, PING_SECONDS, EventStream, Kind, Narrator, size_of, warning_of
from gateway.images import Images
from gateway.readiness import Model
from gateway.threads import in_thread
from gateway.validation import FlowMessage
from services.editing.canvas import scaled_size
from services.wire.errors import InvalidInput


class Answers:
    """Runs flows for a model's requests."""

    def __init__(self, images: Images, store: Store) -> None:
        self._images = images
        self._store = store

    async def whole(
        self, message: FlowMessage, body: schema.Common, visit: Visit, address: str
    ) -> schema.Images:
        """All pictures at once. address: where callers reach this service, without a slash at its end."""
        flow, model = await self._checked(message, body, visit)
        made: dict[int, schema.Image] = {}
        size = ""
        warnings = []
        response_format = body.response_format or self._images.settings.http_response_format
        async with aclosing(self._events(flow, message, visit)) as events:
            async for index, event in events:
                if isinstance(event, Drawn):
                    size = size_of(event)
                    made[index] = await self._image(event, flow, model, response_format, address)
                elif isinstance(event, Warned):
                    warnings.append(warning_of(event))
        return schema.Images(
            created=int(time.time()),
            data=[made[index] for index in sorted(made)],
            output_format=FORMATS[flow.output.form],
            size=size,
            warnings=warnings or None,
        )

    async def streamed(
        self, message: FlowMessage, body: schema.Streamed, visit: Visit, kind: Kind
    ) -> EventStream:
        """Events: what happens on the way, then each picture when it is completed.

        What fails before the first one, or soon, is raised.
        """
        flow, model = await self._checked(message, body, visit)
        partials = body.partial_images or 0
        interval = -(-flow.options.decoder_steps // (partials + 1)) if partials else 0
        flow = replace(flow, options=replace(flow.options, preview_interval=interval))
        events = self._events(flow, message, visit)
        first = asyncio.ensure_future(anext(events, None))
        try:
            await asyncio.wait({first}, timeout=PING_SECONDS)
            if first.done():
                first.result()
        except BaseException:
            await _closed(first, events)
            raise
        narrator = Narrator(flow, model, self._images.signer, kind, partials, bool(body.progress))
        return EventStream(_told(first, events, narrator, visit), partial(_closed, first, events))

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
        name = new_name(FORMATS[flow.output.form])
        await self._store.put(name, picture.data)
        return schema.Image(url=f"{address}/files/{name}", seed=drawn.seed)


async def _closed(first: asyncio.Future[Any], events: AsyncGenerator[Indexed, None]) -> None:
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await events.aclose()


async def _told(
    first: asyncio.Future[Indexed | None],
    events: AsyncGenerator[Indexed, None],
    narrator: Narrator,
    visit: Visit,
) -> AsyncGenerator[bytes, None]:
    try:
        item = await first
        while item is not None:
            if (told := await narrator.told(*item)) is not None:
                yield told
            item = await anext(events, None)
    except Exception as error:
        visit.fail(error)
        yield told_of(error).event
        return
    yield DONE


def missing(path: str) -> HttpError:
    """The error for a path that is not there."""
    return HttpError(404, f"{path:.200} is not here", name="not_found")
