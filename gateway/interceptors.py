"""The chain around every call of the public service: observe, map errors to statuses, admit, read.

A call is a span of its caller's trace, a line in the log and counts in the metrics, whatever becomes of it.
Health, reflection and watches do not come through here: they are always answered.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2
from grpc_status import rpc_status

from gateway import metrics
from gateway.admission import Admission
from gateway.reading import Reading
from gateway.settings import Settings
from services.telemetry import tracing
from services.wire.errors import DeadlineMissed, InvalidInput, grpc_code, to_status
from unclip.v1 import image_service_pb2 as pb

logger = logging.getLogger(__name__)
SERVICE = f"/{pb.DESCRIPTOR.services_by_name['ImageService'].full_name}/"
FLOWS = (
    "generate",
    "inpaint",
    "outpaint",
    "vary",
    "rank_captions",
    "embed_text",
    "embed_image",
    "get_model",
    "none",
)
EXPIRY_SLACK = 0.1
Context = grpc.aio.ServicerContext[Any, Any]
Read = Callable[[bytes], Message]
_current: ContextVar[Call] = ContextVar("call")


class Details(Protocol):
    """What gRPC tells an interceptor of a call."""

    method: str


class Call:
    """One call from its arrival to its end: its flow, its status, and what is told of it."""

    def __init__(self, method: str, context: Context, log_prompts: bool) -> None:
        self._context = context
        self._log_prompts = log_prompts
        self.flow = "none" if method == "stream" else method  # a stream's is known when it has been read
        self._fields: dict[str, Any] = {}
        parent = tracing.received(context.invocation_metadata() or ())
        self.span = tracing.start_server_span(method, parent)
        self._started = time.monotonic()

    def identify(self, request_id: str) -> None:
        """Name the request, for the log and the trace."""
        self._fields["request_id"] = request_id
        self.span.set_attribute("unclip.request_id", request_id)

    def received(self, request: Message, size: int) -> None:
        """Note what was read."""
        if isinstance(request, pb.StreamRequest) and (kind := request.WhichOneof("request")):
            self.flow = kind
            request = getattr(request, kind)
        self.span.update_name(self.flow)
        metrics.received_bytes.labels(self.flow).inc(size)
        if self._log_prompts and (prompt := getattr(request, "prompt", "")):
            self._fields["prompt"] = prompt

    def refused(self, reason: str) -> None:
        """Note what the caller is told."""
        self._fields["reason"] = reason

    def sent(self, response: Message) -> None:
        """Count what goes to the caller."""
        metrics.sent_bytes.labels(self.flow).inc(response.ByteSize())

    def ended(self, status: str) -> None:
        """Tell it all."""
        seconds = time.monotonic() - self._started
        metrics.observe_end(self.flow, status, seconds)
        tracing.finish(self.span, status)
        fields = {"flow": self.flow, **self._fields, "status": status, "seconds": round(seconds, 4)}
        logger.info("%s %s", self.flow, status, extra={**fields, "trace_id": tracing.trace_id(self.span)})

    def left_status(self) -> str:
        """The status of a call whose caller has left."""
        left = self._context.time_remaining()
        # A caller whose deadline passes cancels the call itself, about when it would have expired here.
        return "cancelled" if left is None or left > EXPIRY_SLACK else "deadline_exceeded"


def identify(request_id: str) -> None:
    """Name the request of the call that is being answered."""
    _current.get().identify(request_id)


class Chain(grpc.aio.ServerInterceptor):
    """Wraps every method of the public service.

    Methods are registered as reading a stream of raw messages, of which there is one: so a call is refused
    before its message is received, few messages are received at a time, and bytes that are no message are
    answered like any other bad input.

    A call keeps its place until its answer has been sent.
    """

    def __init__(self, admission: Admission, settings: Settings) -> None:
        self._admission = admission
        self._settings = settings
        self._reading = Reading(settings.readers)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Details
    ) -> Any:
        """Wrap the method, or leave it as it is."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(SERVICE):
            return handler
        method = _snake_case(handler_call_details.method.removeprefix(SERVICE))
        read = handler.request_deserializer
        write = handler.response_serializer
        if handler.unary_unary is not None:
            unary = self._unary(method, read, handler.unary_unary)
            return grpc.stream_unary_rpc_method_handler(unary, None, write)
        stream = self._stream(method, read, handler.unary_stream)
        return grpc.stream_stream_rpc_method_handler(stream, None, write)

    def _unary(
        self, method: str, read: Read, answer: Callable[[Any, Context], Awaitable[Message]]
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[Message]]:
        async def answered(messages: AsyncIterator[bytes], context: Context) -> Message:
            call = self._call(method, context)
            async with self._answering(call, context) as until_sent:
                with tracing.current(call.span):
                    async with self._request(call, messages, read) as request:
                        response = await answer(request, context)
                until_sent.enter_context(self._admission.booked(2 * response.ByteSize()))
                call.sent(response)
            return response

        return answered

    def _stream(
        self, method: str, read: Read, answer: Callable[[Any, Context], Any]
    ) -> Callable[[AsyncIterator[bytes], Context], AsyncIterator[Message]]:
        async def answered(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
            call = self._call(method, context)
            async with (
                self._answering(call, context),
                self._request(call, messages, read) as request,
                aclosing(tracing.under(call.span, answer(request, context))) as responses,
            ):
                async for response in responses:
                    call.sent(response)
                    yield response

        return answered

    def _call(self, method: str, context: Context) -> Call:
        call = Call(method, context, self._settings.log_prompts)
        _current.set(call)
        return call

    @asynccontextmanager
    async def _answering(self, call: Call, context: Context) -> AsyncIterator[ExitStack]:
        """A place and a time for the call, and its end, whatever that is.

        Yields a stack that is closed when the answer has been sent, or cannot be sent any more.
        """
        until_sent = ExitStack()
        context.add_done_callback(lambda _: until_sent.close())  # type: ignore[arg-type]
        most = self._settings.request_timeout
        try:
            until_sent.enter_context(self._admission.place())
            try:
                async with asyncio.timeout(most) as limit:
                    yield until_sent
            except TimeoutError:
                if not limit.expired():
                    raise
                raise DeadlineMissed(f"it took longer than {most:g} s") from None
        except Exception as error:
            await _refuse(error, call, context)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            call.ended(call.left_status())
            raise
        call.ended("ok")

    @asynccontextmanager
    async def _request(
        self, call: Call, messages: AsyncIterator[bytes], read: Read
    ) -> AsyncIterator[Message]:
        """The call's message.

        Its bytes count twice while it is worked on: a file in it is copied when it is looked at.
        """
        with metrics.in_flight.labels("none").track_inprogress():
            data = await self._reading.first(messages)
        with self._admission.holding(2 * len(data)):
            request = _parsed(data, read)
            call.received(request, len(data))
            del data
            with metrics.in_flight.labels(call.flow).track_inprogress():
                yield request


def _parsed(data: bytes, read: Read) -> Message:
    """The message.

    Raises InvalidInput for bytes that are none; gRPC itself would say UNKNOWN, in Python's words.
    """
    try:
        return read(data)
    except (DecodeError, UnicodeDecodeError):
        raise InvalidInput(("request", "is not a valid message of its type (text must be UTF-8)")) from None


async def _refuse(error: Exception, call: Call, context: Context) -> None:
    """End the call with the error's status and details."""
    status = to_status(error)
    if status.code == code_pb2.INTERNAL:
        logger.error("unforeseen error", exc_info=error)
    code = grpc_code(status)
    call.refused(status.message)
    call.ended(code.name.lower())
    await context.abort(code, status.message, rpc_status.to_status(status).trailing_metadata)


def _snake_case(method: str) -> str:
    """RankCaptions as rank_captions."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()
