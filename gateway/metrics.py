"""The gateway's metrics, for Prometheus; docs/metrics.md lists them. No prompt, id or address is ever a label."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from unclip.v1 import image_service_pb2 as pb

SERVICE = f"/{pb.DESCRIPTOR.services_by_name['ImageService'].full_name}/"
# A picture takes a second on a GPU and minutes on a busy CPU.
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600)

EXPIRY_SLACK = 0.1

requests = Counter("unclip_requests", "Finished requests.", ["flow", "status"])
request_seconds = Histogram("unclip_request_seconds", "Seconds from a request's arrival to its end.", ["flow"], buckets=SECONDS)
in_flight = Gauge("unclip_requests_in_flight", "Requests being worked on.", ["flow"])
refusals = Counter("unclip_refusals", "Requests that ended without a result and were not cancelled.", ["reason"])
cancellations = Counter("unclip_cancellations", "Requests whose caller left.", ["flow"])
deadline_misses = Counter("unclip_deadline_misses", "Requests that ran out of time.", ["flow"])
received_bytes = Counter("unclip_received_bytes", "Bytes of requests.", ["flow"])
sent_bytes = Counter("unclip_sent_bytes", "Bytes of responses.", ["flow"])
stage_seconds = Histogram("unclip_stage_seconds", "Seconds that one picture spent in a stage.", ["stage"], buckets=SECONDS)
stage_up = Gauge("unclip_stage_up", "Whether the stage answered when it was last looked at.", ["stage"])
stage_retries = Counter("unclip_stage_retries", "Calls on a stage that were made again.", ["stage"])
text_cache = Counter("unclip_text_cache", "Prompts looked up in the cache of encoded texts.", ["outcome"])
model = Gauge("unclip_gateway_model_info", "1 for the model that is served.", ["model", "version"])
model_mismatch = Gauge("unclip_model_mismatch", "1 while stages serve different versions of the model.")


def serve_metrics(host: str, port: int) -> Callable[[], None]:
    """Answer /metrics on this address; returns what stops it."""
    server, thread = start_http_server(port, host)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class Measured(grpc.aio.ServerInterceptor):
    """Measures every call of the public service."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Wrap the method."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(SERVICE):
            return handler
        method = _snake_case(handler_call_details.method.removeprefix(SERVICE))
        if handler.unary_unary is not None:
            return handler._replace(unary_unary=_measured_unary(method, handler.unary_unary))
        return handler._replace(unary_stream=_measured_stream(method, handler.unary_stream))


def _measured_unary(method: str, answer: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def measured(request: Any, context: Any) -> Any:
        flow = _flow(method, request)
        with _observed(flow, request, context):
            response = await answer(request, context)
            sent_bytes.labels(flow).inc(response.ByteSize())
            return response

    return measured


def _measured_stream(method: str, answer: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def measured(request: Any, context: Any) -> AsyncIterator[Any]:
        flow = _flow(method, request)
        with _observed(flow, request, context):
            async for response in answer(request, context):
                sent_bytes.labels(flow).inc(response.ByteSize())
                yield response

    return measured


def _snake_case(method: str) -> str:
    """RankCaptions as rank_captions."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()


def _flow(method: str, request: Any) -> str:
    """The flow a call belongs to: a stream's is what it carries."""
    if method != "stream":
        return method
    return (request.WhichOneof("request") if isinstance(request, pb.StreamRequest) else None) or "none"


@contextmanager
def _observed(flow: str, request: Any, context: Any) -> Iterator[None]:
    started, status = time.monotonic(), "ok"
    received_bytes.labels(flow).inc(request.ByteSize() if hasattr(request, "ByteSize") else 0)
    with in_flight.labels(flow).track_inprogress():
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            left = context.time_remaining()
            # A caller whose deadline passes cancels the call itself, about when it would have expired here.
            status = "cancelled" if left is None or left > EXPIRY_SLACK else "deadline_exceeded"
            raise
        except BaseException:
            status = _status(context)
            raise
        finally:
            request_seconds.labels(flow).observe(time.monotonic() - started)
            _count(flow, status)


def _status(context: Any) -> str:
    """The status a method has ended its call with."""
    code = context.code()
    name = code.name if isinstance(code, grpc.StatusCode) else next((c.name for c in grpc.StatusCode if c.value[0] == code), "UNKNOWN")
    return name.lower()


def _count(flow: str, status: str) -> None:
    requests.labels(flow, status).inc()
    if status == "cancelled":
        cancellations.labels(flow).inc()
    elif status != "ok":
        refusals.labels(status).inc()
    if status == "deadline_exceeded":
        deadline_misses.labels(flow).inc()
