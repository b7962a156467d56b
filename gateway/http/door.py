"""Around every call of the Images API: a place, its body, its end; a caller that goes away cancels its work.

It does for HTTP what the chain does for gRPC, with the same parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import metrics
from gateway.calls import Call
from gateway.checks import MAX_REQUEST_ID
from gateway.http.errors import HttpError, told_of
from gateway.places import Places
from gateway.reading import Reading
from gateway.settings import Settings
from gateway.tokens import Authenticator
from services.telemetry import tracing

PREFIX = "/v1/"
FLOWS = {
    "/v1/images/generations": "generate",
    "/v1/images/edits": "inpaint",
    "/v1/images/variations": "vary",
    "/v1/images/mix": "mix",
    "/v1/images/interpolations": "interpolate",
    "/v1/images/rank": "rank_captions",
    "/v1/embeddings": "embed_text",
    "/v1/models": "get_model",
}
# The most bytes of a request without pictures.
SMALL = 256 * 2**10
SMALL_PATHS = ("/v1/images/generations", "/v1/models")
PIECE = 64 * 2**10  # of an answer, sent at a time
# The seconds that a caller waits: our own header, and the one that OpenAI's clients send.
TIMEOUTS = ("x-request-timeout", "x-stainless-read-timeout")


class Door:
    """ASGI middleware. What is no call passes through: the page, and pictures by their secret names."""

    def __init__(
        self,
        app: ASGIApp,
        places: Places,
        authenticator: Authenticator,
        reading: Reading,
        settings: Settings,
    ) -> None:
        self._app = app
        self._places = places
        self._authenticator = authenticator
        self._reading = reading
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        visit = Visit(scope, receive, send, self._places, self._settings)
        try:
            async with visit.call.answering(
                self._places, self._authenticator, self._settings, visit.until_sent
            ):
                with metrics.in_flight.labels("none").track_inprogress():
                    body = await self._reading.first(visit.body())
                with (
                    self._places.holding(2 * len(body)),
                    metrics.in_flight.labels(visit.call.flow).track_inprogress(),
                ):
                    metrics.received_bytes.labels(visit.call.flow).inc(len(body))
                    await visit.run(self._app, body)
        except asyncio.CancelledError:
            if not visit.left:
                raise
        except Exception as error:
            await visit.refuse(error)
        finally:
            visit.until_sent.close()


class Visit:
    """One request at the door. left: its caller has gone away."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, places: Places, settings: Settings
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._raw_send = send
        self._places = places
        small = scope["path"].startswith(SMALL_PATHS)
        self._most = min(SMALL, settings.max_request_bytes) if small else settings.max_request_bytes
        self._begun = False
        self._may_add = False  # an event, to a stream: none is half sent, and it has not ended
        self.left = False
        self.until_sent = ExitStack()
        headers = Headers(scope=scope)
        self.request_id = _request_id(headers.get("x-request-id", ""))
        left = _seconds(headers)
        flow = FLOWS.get(scope["path"], "none")
        loop = asyncio.get_running_loop()
        end = None if left is None else loop.time() + left
        self.call = Call(
            flow,
            headers.items(),
            lambda: None if end is None else end - loop.time(),
            settings.log_prompts,
            (scope.get("client") or ("",))[0],
        )
        self.call.note(request_id=self.request_id)
        scope.setdefault("state", {}).update(visit=self)

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body, whole. Raises HttpError if it is too long."""
        parts = []
        size = 0
        announced = Headers(scope=self._scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._most:
            raise self._too_large()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.left = True
                raise asyncio.CancelledError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                raise self._too_large()
            if not message.get("more_body", False):
                yield b"".join(parts)
                return

    async def run(self, app: ASGIApp, body: bytes) -> None:
        """Have the request answered. Raises what was told to the caller as an error."""
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if given:
                return given.pop()
            await asyncio.Event().wait()  # the watch below cancels
            raise AssertionError

        with tracing.current(self.call.span):
            work = asyncio.ensure_future(_run(app, self._scope, receive, self.send))
        watch = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.left = True
                raise asyncio.CancelledError
            await work
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
        if (error := self._scope["state"].get("error")) is not None:
            raise error

    def fail(self, error: Exception) -> None:
        """Note an error that the caller was told of, for the end of the call."""
        self._scope["state"]["error"] = error

    def forget_read_timeout(self) -> None:
        """The caller reads a stream: it waits so long for each part, not for the whole."""
        if Headers(scope=self._scope).get(TIMEOUTS[0]) is None:
            self.call.time_left = lambda: None

    async def send(self, message: Message) -> None:
        """To the caller, with the request's id, in pieces: so that most of it has left when this returns.

        The bytes count until then.
        """
        if message["type"] == "http.response.start":
            self._begun = True
            own = {"x-request-id": self.request_id, **self.call.headers}
            added = [(name.encode(), value.encode()) for name, value in own.items()]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
            streams = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
        else:
            streams = self._may_add and message.get("more_body", False)
        body = message.get("body", b"")
        self.call.sent(len(body))
        self._may_add = False
        with self._places.booked(len(body)):
            while len(body) > PIECE:
                await self._raw_send({**message, "body": body[:PIECE], "more_body": True})
                body = body[PIECE:]
            await self._raw_send({**message, "body": body} if "body" in message else message)
        self._may_add = streams

    async def refuse(self, error: Exception) -> None:
        """Tell the caller of an error, if no answer has begun, or if that is a stream."""
        told = told_of(error)
        if not self._begun:
            await told.response()(self._scope, self._receive, self.send)
        elif self._may_add:
            await self.send({"type": "http.response.body", "body": told.event, "more_body": False})

    async def _gone(self) -> None:
        """Returns when the caller has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _too_large(self) -> HttpError:
        return HttpError(413, f"the request is too large; at most {self._most} bytes are allowed")


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def visit_of(request: Any) -> Visit:
    """The visit that a request of Starlette's belongs to."""
    visit: Visit = request.scope["state"]["visit"]
    return visit


def _request_id(given: str) -> str:
    usable = given.isascii() and given.isprintable() and 0 < len(given) <= MAX_REQUEST_ID
    return given if usable else f"req_{uuid.uuid4().hex}"


def _seconds(headers: Headers) -> float | None:
    for name in TIMEOUTS:
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", given := headers.get(name, "")):
            with contextlib.suppress(ValueError):
                return float(given)
    return None
