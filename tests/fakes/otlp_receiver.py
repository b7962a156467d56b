"""A real OTLP receiver in this process: it keeps the spans that are sent to it by OTLP over gRPC."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class ReceivedSpan:
    service: str
    name: str
    span_id: bytes
    parent_id: bytes
    trace_id: str
    failed: bool
    attributes: dict[str, Any]


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.port = 0

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that make a process send its spans here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }

    def Export(self, request: Any, context: Any) -> Any:
        for group in request.resource_spans:
            service = next(a.value.string_value for a in group.resource.attributes if a.key == "service.name")
            for span in (s for scope in group.scope_spans for s in scope.spans):
                attributes = {
                    a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes
                }
                failed = span.status.code == span.status.STATUS_CODE_ERROR
                self.spans.append(
                    ReceivedSpan(
                        service,
                        span.name,
                        span.span_id,
                        span.parent_span_id,
                        span.trace_id.hex(),
                        failed,
                        attributes,
                    )
                )
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_trace(self, trace_id: str, count: int, patience: float = 60.0) -> list[ReceivedSpan]:
        """The spans of a trace, once ``count`` have come."""
        until = time.monotonic() + patience
        while len(found := [s for s in self.spans if s.trace_id == trace_id]) < count:
            assert time.monotonic() < until, (
                f"{len(found)} of {count} spans came: {[(s.service, s.name) for s in found]}"
            )
            time.sleep(0.05)
        return found


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver, server = Receiver(), grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    receiver.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver
    server.stop(None)
