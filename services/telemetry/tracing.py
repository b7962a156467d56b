"""Tracing by OpenTelemetry.

W3C trace context in gRPC metadata, and spans exported where the standard variables say so.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractContextManager
from typing import TypeVar

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, Status, StatusCode

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
tracer = trace.get_tracer("unclip")
Item = TypeVar("Item")


def export_spans(service: str) -> None:
    """Send this process's spans to the receiver that OTEL_EXPORTER_OTLP_ENDPOINT names, by OTLP over gRPC;
    without one, none are kept.

    service: their ``service.name``, unless OTEL_SERVICE_NAME gives another. The SDK heeds the other OTEL_*
    variables.
    """
    if (
        not any(os.environ.get(name) for name in ENDPOINTS)
        or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
    ):
        return
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def received(metadata: Iterable[tuple[str, str | bytes]]) -> Context:
    """The trace that a call belongs to, from its metadata; an empty context if it belongs to none."""
    return propagate.extract({key: value for key, value in metadata if isinstance(value, str)}, Context())


def sent() -> tuple[tuple[str, str], ...]:
    """The metadata that makes a call part of the current trace; none if there is no trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items())


def start_server_span(name: str, parent: Context) -> Span:
    """The span of a call that was received."""
    return tracer.start_span(name, parent, trace.SpanKind.SERVER)


def trace_id(span: Span) -> str:
    """The id of a span's trace in hexadecimal, empty if it has none."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def finish(span: Span, status: str) -> None:
    """End a span with a gRPC code in lower case; anything but "ok" is an error."""
    span.set_attribute("rpc.grpc.status", status)
    if status != "ok":
        span.set_status(Status(StatusCode.ERROR, status))
    span.end()


def current(span: Span) -> AbstractContextManager[Span]:
    """Make a span the current one for a block; the block's errors are its caller's to record."""
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


async def under(span: Span, items: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
    """The generator's items, with ``span`` current while each is made, but not while the consumer has it."""
    try:
        while True:
            with current(span):
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item
    finally:
        with current(span):
            await items.aclose()
