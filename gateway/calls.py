"""Every call of the public service: counted and timed, a span of its caller's trace, and a line in the log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Self

import grpc
import grpc.aio
from opentelemetry import trace

from gateway import metrics
from services.telemetry import tracing
from unclip.v1 import image_service_pb2 as pb

logger = logging.getLogger(__name__)
SERVICE = f"/{pb.DESCRIPTOR.services_by_name['ImageService'].full_name}/"
FLOWS = ("generate", "inpaint", "outpaint", "vary", "rank_captions", "embed_text", "embed_image", "get_model")
EXPIRY_SLACK = 0.1
_current: ContextVar[Call] = ContextVar("call")


class Call:
    """One call from its arrival to its end."""

    def __init__(self, flow: str, request: Any, context: Any, log_prompts: bool) -> None:
        self._flow, self._context = flow, context
        self._fields: dict[str, Any] = {"flow": flow}
        if log_prompts and (prompt := _prompt(request)):
            self._fields["prompt"] = prompt
        parent = tracing.received(context.invocation_metadata() or ())
        self.span = tracing.tracer.start_span(flow, parent, trace.SpanKind.SERVER)
        self._started, self._status = time.monotonic(), "ok"
        metrics.received_bytes.labels(flow).inc(request.ByteSize() if hasattr(request, "ByteSize") else 0)

    def identify(self, request_id: str) -> None:
        """Name the request, for the log and the trace."""
        self._fields["request_id"] = request_id
        self.span.set_attribute("unclip.request_id", request_id)

    def sent(self, response: Any) -> None:
        """Count what goes to the caller."""
        metrics.sent_bytes.labels(self._flow).inc(response.ByteSize())

    def __enter__(self) -> Self:
        metrics.in_flight.labels(self._flow).inc()
        _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: object
    ) -> None:
        metrics.in_flight.labels(self._flow).dec()
        if kind is not None:
            self._status = self._status_of(kind)
        seconds = time.monotonic() - self._started
        metrics.request_seconds.labels(self._flow).observe(seconds)
        self._count()
        tracing.finish(self.span, self._status)
        fields = {
            **self._fields,
            "status": self._status,
            "seconds": round(seconds, 4),
            "trace_id": tracing.trace_id(self.span),
        }
        logger.info("%s %s", self._flow, self._status, extra=fields)

    def _status_of(self, kind: type[BaseException]) -> str:
        """The status that a method which raised has ended its call with."""
        if issubclass(kind, (asyncio.CancelledError, GeneratorExit)):
            left = self._context.time_remaining()
            # A caller whose deadline passes cancels the call itself, about when it would have expired here.
            return "cancelled" if left is None or left > EXPIRY_SLACK else "deadline_exceeded"
        code = self._context.code()
        name = (
            code.name
            if isinstance(code, grpc.StatusCode)
            else next((c.name for c in grpc.StatusCode if c.value[0] == code), "UNKNOWN")
        )
        return name.lower()

    def _count(self) -> None:
        metrics.requests.labels(self._flow, self._status).inc()
        if self._status == "cancelled":
            metrics.cancellations.labels(self._flow).inc()
        elif self._status != "ok":
            metrics.refusals.labels(self._status).inc()
        if self._status == "deadline_exceeded":
            metrics.deadline_misses.labels(self._flow).inc()


def identify(request_id: str) -> None:
    """Name the request of the call that is being answered."""
    _current.get().identify(request_id)


class Observed(grpc.aio.ServerInterceptor):
    """Makes a ``Call`` of every call of the public service."""

    def __init__(self, log_prompts: bool) -> None:
        self._log_prompts = log_prompts

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Wrap the method."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(SERVICE):
            return handler
        method = _snake_case(handler_call_details.method.removeprefix(SERVICE))
        if handler.unary_unary is not None:
            return handler._replace(unary_unary=self._unary(method, handler.unary_unary))
        return handler._replace(unary_stream=self._stream(method, handler.unary_stream))

    def _unary(
        self, method: str, answer: Callable[[Any, Any], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def observed(request: Any, context: Any) -> Any:
            with (
                Call(_flow(method, request), request, context, self._log_prompts) as call,
                tracing.current(call.span),
            ):
                response = await answer(request, context)
                call.sent(response)
                return response

        return observed

    def _stream(
        self, method: str, answer: Callable[[Any, Any], Any]
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def observed(request: Any, context: Any) -> AsyncIterator[Any]:
            with Call(_flow(method, request), request, context, self._log_prompts) as call:
                async with aclosing(tracing.under(call.span, answer(request, context))) as responses:
                    async for response in responses:
                        call.sent(response)
                        yield response

        return observed


def _snake_case(method: str) -> str:
    """RankCaptions as rank_captions."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()


def _flow(method: str, request: Any) -> str:
    """The flow a call belongs to: a stream's is what it carries."""
    if method != "stream":
        return method
    return (request.WhichOneof("request") if isinstance(request, pb.StreamRequest) else None) or "none"


def _prompt(request: Any) -> str:
    """What the caller asks for, in words; a stream's is what it carries."""
    if isinstance(request, pb.StreamRequest) and (kind := request.WhichOneof("request")):
        request = getattr(request, kind)
    return str(getattr(request, "prompt", ""))
