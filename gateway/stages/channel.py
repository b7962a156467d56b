"""One stage's connection.

Calls with what is left of the time, retried, and errors of ours in place of gRPC's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import string
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TypeVar, cast
from urllib.parse import quote

import grpc
import grpc.aio
from opentelemetry import trace

from gateway import metrics
from gateway.settings import Settings, StageTarget
from gateway.stages.budget import Budget
from gateway.stages.connection import Metadata, StreamCall, UnaryMethod, channel_options, target_of
from gateway.stages.errors import NOT_FITTING, meaning_of, unavailable
from gateway.tls import channel_credentials
from services.telemetry import tracing
from services.wire.errors import (
    DeadlineMissed,
    InvalidInput,
    ServiceError,
    StageMismatch,
    StageUnavailable,
)
from services.wire.stages import APPLICATION_KEY, PROXY_HEALTH, REQUEST_ID_KEY, StageName
from services.wire.tensors import Array, from_message
from unclip.internal.v1 import stage_service_pb2, stage_service_pb2_grpc, tensor_pb2

logger = logging.getLogger(__name__)
LOOK_SECONDS = 5.0
ATTEMPTS = 3
RETRY_SECONDS = 0.2  # before the second attempt; five times as long before the third
# A stage that was there so many seconds ago is waited for as long, but no more than this share of a request's
# time: its proxy may be starting anew, which takes Ray Serve half a minute.
RETURN_SECONDS = 60.0
RETURN_SHARE = 0.5
SYSTEM_ROOTS = "system"
CLOSE_SECONDS = 24 * 3600.0  # calls on an old connection end by their own deadlines
PRINTABLE = string.punctuation + " "  # what metadata may hold beside letters and digits

Request = TypeVar("Request")
Response = TypeVar("Response")
Stub = TypeVar("Stub")


class StageChannel:
    """A stage's connection to its proxies, which are called in turn: every address that the name resolves to.

    It is opened anew every ``max_connection_seconds``, so that it finds proxies that have come since, as in a
    rollout. Calls on the old one end there.
    """

    def __init__(
        self, name: StageName, target: StageTarget, settings: Settings, *, sleeps: bool = False
    ) -> None:
        self.name = name
        self._target = target_of(target.address)
        self._options = channel_options(settings.keepalive_seconds)
        self._settings = settings
        self._max_seconds = settings.max_connection_seconds
        # A stage that sleeps says nothing until a replica has started.
        self._silence_seconds = math.inf if sleeps else settings.stage_silence_seconds
        self._application: Metadata = ((APPLICATION_KEY, target.application),)
        self._closing: set[asyncio.Task[None]] = set()
        self._stubs: dict[object, object] = {}
        self._channel: grpc.aio.Channel | None = None
        self._opened = 0.0
        self._last_seen = -math.inf  # when it last answered

    def stub(self, make: Callable[[grpc.aio.Channel], Stub]) -> Stub:
        """The stub of this kind, on the connection of now."""
        channel = self._fresh_channel()
        found = self._stubs.get(make)
        if found is None:
            found = self._stubs[make] = make(channel)
        return cast(Stub, found)

    def _fresh_channel(self) -> grpc.aio.Channel:
        now = time.monotonic()
        if self._channel is not None and now - self._opened < self._max_seconds:
            return self._channel
        if self._channel is not None:
            closing = asyncio.create_task(self._channel.close(CLOSE_SECONDS))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._stubs.clear()
        if credentials := self._credentials():
            self._channel = grpc.aio.secure_channel(self._target, credentials, options=self._options)
        else:
            self._channel = grpc.aio.insecure_channel(self._target, options=self._options)
        self._opened = now
        return self._channel

    def _credentials(self) -> grpc.ChannelCredentials | None:
        """Read anew for each connection, so that files that were replaced come into use."""
        settings = self._settings
        if not settings.stage_tls_ca:
            return None
        ca = "" if settings.stage_tls_ca == SYSTEM_ROOTS else settings.stage_tls_ca
        return channel_credentials(ca, settings.stage_tls_certificate, settings.stage_tls_key)

    async def describe(self) -> stage_service_pb2.DescribeResponse:
        """What the stage serves, asked of a replica.

        Raises StageUnavailable, or DeadlineMissed from a busy one.
        """
        request = stage_service_pb2.DescribeRequest()
        with self._errors():
            info = self.stub(stage_service_pb2_grpc.StageServiceStub)
            answer = await info.Describe(request, timeout=LOOK_SECONDS, metadata=self._application)
        self._last_seen = time.monotonic()
        return answer

    async def ping(self) -> None:
        """Whether Ray Serve's proxy answers, which asks no replica.

        Raises StageUnavailable if it does not.
        """
        try:
            with self._errors():
                await self.stub(proxy_health)(b"", timeout=LOOK_SECONDS, metadata=())
            self._last_seen = time.monotonic()
        except DeadlineMissed:
            raise self.unavailable() from None

    async def call(
        self,
        method: Callable[[], UnaryMethod[Request, Response]],
        make: Callable[[], Request],
        budget: Budget,
    ) -> Response:
        """The answer of a unary call, which is made again, twice at most, if the stage was not there.

        method: gives the method on the connection of now. make: gives a fresh request.
        """
        for attempt in range(ATTEMPTS):
            try:
                answer = await self._call(method(), make(), budget)
                self._last_seen = time.monotonic()
                return answer
            except StageUnavailable:
                if attempt == ATTEMPTS - 1:
                    raise
                await self._before_retry(attempt, budget)
        raise self.unavailable()

    async def stream(
        self,
        method: Callable[[], Callable[..., StreamCall[Response]]],
        make: Callable[[], object],
        is_result: Callable[[Response], bool],
        budget: Budget,
    ) -> AsyncGenerator[Response, None]:
        """The messages of a sampling call; the last is its result.

        Leaving early cancels it, which frees its rows. A call that breaks before its result, or ends without
        one, is made again, twice at most. Seeds make it the same, and progress begins anew.
        """
        for attempt in range(ATTEMPTS):
            try:
                async with contextlib.aclosing(self._stream(method(), make(), budget)) as messages:
                    async for message in messages:
                        yield message
                        if is_result(message):
                            return
                raise self.unavailable()
            except StageUnavailable:
                if attempt == ATTEMPTS - 1:
                    raise
                await self._before_retry(attempt, budget)

    def array(self, message: tensor_pb2.Tensor, *shape: int | None) -> Array:
        """An array of the stage's answer. Raises StageMismatch if it is not what was asked for."""
        try:
            return from_message(message, self.name, shape)
        except InvalidInput as error:
            raise self.mismatch(str(error)) from None

    def mismatch(self, what: str) -> StageMismatch:
        """The error for an answer that does not fit what was asked for."""
        logger.error("%s answered: %s", self.name, what)
        return StageMismatch(NOT_FITTING)

    def unavailable(self) -> StageUnavailable:
        """The error that says so."""
        return unavailable(self.name)

    async def close(self) -> None:
        """Close the connection, and those that are on their way out."""
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()

    async def _call(
        self, method: UnaryMethod[Request, Response], request: Request, budget: Budget
    ) -> Response:
        try:
            async with asyncio.timeout(min(self._silence_seconds, budget.seconds_left)):
                with self._errors(), self._span() as span, tracing.current(span):
                    metadata = self._metadata(budget)
                    return await method(request, timeout=budget.seconds_left, metadata=metadata)
        except TimeoutError:
            raise self._silent(budget) from None

    async def _stream(
        self, method: Callable[..., StreamCall[Response]], request: object, budget: Budget
    ) -> AsyncGenerator[Response, None]:
        with self._errors(), self._span() as span:
            with tracing.current(span):
                call = method(request, timeout=budget.seconds_left, metadata=self._metadata(budget))
            messages = aiter(call)
            try:
                while (message := await self._next(messages, budget)) is not None:
                    self._last_seen = time.monotonic()
                    yield message
            finally:
                call.cancel()

    async def _next(self, messages: AsyncIterator[Response], budget: Budget) -> Response | None:
        """The next message of a stream; None at its end. Raises StageUnavailable if nothing comes."""
        try:
            async with asyncio.timeout(min(self._silence_seconds, budget.seconds_left)):
                return await anext(messages, None)
        except TimeoutError:
            raise self._silent(budget) from None

    def _silent(self, budget: Budget) -> ServiceError:
        """What it means that a stage has said nothing for as long as it may."""
        if budget.seconds_left <= 0:
            return DeadlineMissed("the deadline has passed")
        logger.warning("%s: no word for %.0f s", self.name, self._silence_seconds)
        return self.unavailable()

    async def _before_retry(self, attempt: int, budget: Budget) -> None:
        metrics.stage_retries.labels(self.name).inc()
        await asyncio.sleep(RETRY_SECONDS * 5**attempt * random.uniform(0.5, 1.5))
        if time.monotonic() - self._last_seen < RETURN_SECONDS:
            ready = self._fresh_channel().channel_ready()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(RETURN_SECONDS, RETURN_SHARE * budget.seconds_left)):
                    await ready

    def _metadata(self, budget: Budget) -> Metadata:
        """Which application is called, for which request, in which trace."""
        return (
            *self._application,
            (REQUEST_ID_KEY, quote(budget.request_id, safe=PRINTABLE)),
            *tracing.sent(),
        )

    @contextlib.contextmanager
    def _span(self) -> Iterator[trace.Span]:
        """A span of one attempt at a call."""
        span = tracing.tracer.start_span(self.name, kind=trace.SpanKind.CLIENT)
        status = "ok"
        try:
            yield span
        except grpc.aio.AioRpcError as error:
            status = error.code().name.lower()
            raise
        except GeneratorExit:
            raise  # the result is there, or the caller has left
        except BaseException:
            status = "cancelled"
            raise
        finally:
            tracing.finish(span, status)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn gRPC errors of this stage into ours."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise meaning_of(error, self.name) from None


def proxy_health(channel: grpc.aio.Channel) -> UnaryMethod[bytes, bytes]:
    """The proxy's own method, which asks no replica."""
    method: UnaryMethod[bytes, bytes] = channel.unary_unary(PROXY_HEALTH)
    return method
