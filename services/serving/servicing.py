"""Servicer methods under Ray Serve. What they raise becomes a clean status; nothing of a traceback leaves.

Every call is a span of its caller's trace and a line in Ray Serve's log, which adds the request's id to it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol, Self, TypeVar

import grpc
from google.rpc import code_pb2
from opentelemetry import trace

from services.engine import EngineError
from services.serving.engine import to_service_error
from services.telemetry import tracing
from services.wire.errors import DETAILS_KEY, grpc_code, to_status
from services.wire.stages import REQUEST_ID_KEY

logger = logging.getLogger("ray.serve")  # whose handlers know the application, the replica and the request
Request = TypeVar("Request")
Response = TypeVar("Response")


class GrpcContext(Protocol):
    """What is used of Ray Serve's gRPC context (which pickles, and so has no cancellation or deadline)."""

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        """What the caller sent before the request."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status code."""

    def set_details(self, details: str) -> None:
        """Set the status message."""

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        """Set what is sent after the response."""


def unary(
    empty: Callable[[], Response],
) -> Callable[
    [Callable[[Any, Request], Awaitable[Response]]],
    Callable[[Any, Request, GrpcContext], Awaitable[Response]],
]:
    """Make ``async def Method(self, request)`` a servicer method.

    An error is answered with its status and ``empty()``.
    """

    def wrap(
        method: Callable[[Any, Request], Awaitable[Response]],
    ) -> Callable[[Any, Request, GrpcContext], Awaitable[Response]]:
        @functools.wraps(method)
        async def answer(self: Any, request: Request, grpc_context: GrpcContext) -> Response:
            with _Call(method.__name__, grpc_context) as call:
                try:
                    with tracing.current(call.span):
                        return await method(self, request)
                except Exception as error:
                    call.failed(error)
                    return empty()

        return _signed(answer)

    return wrap


def streaming(
    empty: Callable[[], Response],
) -> Callable[
    [Callable[[Any, Request], AsyncGenerator[Response, None]]],
    Callable[[Any, Request, GrpcContext], AsyncGenerator[Response, None]],
]:
    """The same for ``async def Method(self, request) -> AsyncGenerator``.

    Ray Serve carries a status with a message only, so an error ends the stream with an empty message.
    """

    def wrap(
        method: Callable[[Any, Request], AsyncGenerator[Response, None]],
    ) -> Callable[[Any, Request, GrpcContext], AsyncGenerator[Response, None]]:
        @functools.wraps(method)
        async def answer(
            self: Any, request: Request, grpc_context: GrpcContext
        ) -> AsyncGenerator[Response, None]:
            with _Call(method.__name__, grpc_context) as call:
                try:
                    async with contextlib.aclosing(tracing.under(call.span, method(self, request))) as events:
                        async for event in events:
                            yield event
                except Exception as error:
                    call.failed(error)
                    yield empty()

        return _signed(answer)

    return wrap


Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(answer: Method) -> Method:
    """Show the wrapper's own signature: Ray Serve hands the context to methods that name ``grpc_context``."""
    del answer.__wrapped__  # type: ignore[attr-defined]
    assert "grpc_context" in inspect.signature(answer).parameters
    return answer


class _Call:
    """One call: its span, its status, and its line in the log."""

    def __init__(self, method: str, context: GrpcContext) -> None:
        metadata = context.invocation_metadata()
        self._method = method
        self._context = context
        parent = tracing.received(metadata)
        # Health checks come without a trace and an id: they leave no span and no line.
        traced = trace.get_current_span(parent).get_span_context().is_valid
        self.span = (
            tracing.tracer.start_span(method, parent, trace.SpanKind.SERVER) if traced else trace.INVALID_SPAN
        )
        self._logged = REQUEST_ID_KEY in dict(metadata)
        self._started = time.monotonic()
        self._status = "ok"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: object
    ) -> None:
        if kind is not None:
            self._status = "cancelled"
        tracing.finish(self.span, self._status)
        if self._logged:
            seconds = round(time.monotonic() - self._started, 4)
            fields = {"status": self._status, "seconds": seconds, "trace_id": tracing.trace_id(self.span)}
            logger.info("%s %s", self._method, self._status, extra=fields)

    def failed(self, error: Exception) -> None:
        """Answer with the error's status."""
        status = to_status(to_service_error(error) if isinstance(error, EngineError) else error)
        if status.code == code_pb2.INTERNAL:
            logger.error("unforeseen error", exc_info=error)
        code = grpc_code(status)
        self._status = code.name.lower()
        self._context.set_code(code)
        self._context.set_details(status.message)
        self._context.set_trailing_metadata([(DETAILS_KEY, status.SerializeToString())])
