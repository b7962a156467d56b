"""The chain around every gRPC call of the public service: a place, its message, and errors as statuses.

Health, reflection and watches do not come through here: they are always answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from gateway import metrics
from gateway.calls import Call
from gateway.images import Images
from gateway.places import Places
from gateway.reading import Reading
from gateway.replays import Replays
from gateway.settings import Settings
from gateway.tokens import Authenticator
from gateway.validation import FlowMessage
from services.telemetry import tracing
from services.wire.errors import InvalidInput, grpc_code, to_status
from unclip.v1 import image_service_pb2 as pb

SERVICE = f"/{pb.DESCRIPTOR.services_by_name['ImageService'].full_name}/"
Context = grpc.aio.ServicerContext[Any, Any]
Read = Callable[[bytes], Message]


class Details(Protocol):
    """What gRPC tells an interceptor of a call."""

    method: str


class Chain(grpc.aio.ServerInterceptor):
    """Wraps every method of the public service.

    Methods are registered as reading a stream of raw messages, of which there is one: so a call is refused
    before its message is received, few messages are received at a time, and bytes that are no message are
    answered like any other bad input.

    A call keeps its place until its answer has been sent.
    """

    def __init__(
        self,
        places: Places,
        authenticator: Authenticator,
        reading: Reading,
        replays: Replays,
        settings: Settings,
    ) -> None:
        self._places = places
        self._replays = replays
        self._authenticator = authenticator
        self._reading = reading
        self._settings = settings

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
            async with self._answering(method, context) as (call, until_sent):
                with tracing.current(call.span):
                    async with self._request(call, messages, read) as request:
                        response = await self._once(call, request, lambda: answer(request, context))
                until_sent.enter_context(self._places.booked(2 * response.ByteSize()))
                call.sent(response.ByteSize())
            return response

        return answered

    async def _once(self, call: Call, request: Message, answer: Callable[[], Awaitable[Message]]) -> Message:
        """The answer; that of an earlier call, if this one has its key and asks for the same."""
        if not call.idempotency_key or not isinstance(request, FlowMessage):
            return await answer()
        Images.require_allowed(request)  # also of one who would be given another's answer
        name = type(request).__name__
        asked = name.encode() + request.SerializeToString(deterministic=True)

        async def work() -> bytes:
            return (await answer()).SerializeToString()

        assert call.caller is not None
        fingerprint = hashlib.sha256(asked).digest()
        data = await self._replays.answer(call.idempotency_key, call.caller.tenant, fingerprint, work)
        kind: type[Message] = getattr(pb, name.removesuffix("Request") + "Response")
        return kind.FromString(data)

    def _stream(
        self, method: str, read: Read, answer: Callable[[Any, Context], Any]
    ) -> Callable[[AsyncIterator[bytes], Context], AsyncIterator[Message]]:
        async def answered(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
            async with (
                self._answering(method, context) as (call, _),
                self._request(call, messages, read) as request,
                aclosing(tracing.under(call.span, answer(request, context))) as responses,
            ):
                async for response in responses:
                    call.sent(response.ByteSize())
                    yield response

        return answered

    @asynccontextmanager
    async def _answering(self, method: str, context: Context) -> AsyncIterator[tuple[Call, ExitStack]]:
        """The call, and a stack that is closed when its answer has been sent, or cannot be sent any more."""
        metadata = context.invocation_metadata() or ()
        address = context.peer().rpartition(":")[0]  # "ipv4:10.0.0.1:55123"
        call = Call(method, metadata, context.time_remaining, self._settings.log_prompts, address)
        until_sent = ExitStack()
        context.add_done_callback(lambda _: until_sent.close())  # type: ignore[arg-type]
        try:
            async with call.answering(self._places, self._authenticator, self._settings, until_sent):
                yield call, until_sent
                context.set_trailing_metadata(tuple(call.headers.items()))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            status = to_status(error)
            details = rpc_status.to_status(status).trailing_metadata or ()
            await context.abort(grpc_code(status), status.message, (*details, *call.headers.items()))
            raise

    @asynccontextmanager
    async def _request(
        self, call: Call, messages: AsyncIterator[bytes], read: Read
    ) -> AsyncIterator[Message]:
        """The call's message.

        Its bytes count twice while it is worked on: a file in it is copied when it is looked at.
        """
        with metrics.in_flight.labels("none").track_inprogress():
            data = await self._reading.first(messages)
        with self._places.holding(2 * len(data)):
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


def _snake_case(method: str) -> str:
    """RankCaptions as rank_captions."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()
