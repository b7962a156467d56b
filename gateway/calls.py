"""A call of the public service, whichever door it comes through: its place, its time, and its end.

A call is a span of its caller's trace, a line in the log and counts in the metrics, whatever becomes of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any

from google.protobuf.message import Message
from google.rpc import code_pb2

from gateway import metrics
from gateway.callers import Caller, Scope
from gateway.places import Places
from gateway.settings import Settings
from gateway.shared_answers import HEADER
from gateway.tokens import Authenticator
from services.telemetry import tracing
from services.wire.errors import DeadlineMissed, grpc_code, to_status
from unclip.v1 import image_service_pb2 as pb

logger = logging.getLogger(__name__)
FLOWS = (
    "generate",
    "inpaint",
    "outpaint",
    "vary",
    "mix",
    "interpolate",
    "rank_captions",
    "embed_text",
    "embed_image",
    "get_model",
    "list_models",
    "none",
)
KINDS: dict[type[Message], str] = {
    pb.GenerateRequest: "generate",
    pb.InpaintRequest: "inpaint",
    pb.OutpaintRequest: "outpaint",
    pb.VaryRequest: "vary",
    pb.MixRequest: "mix",
    pb.InterpolateRequest: "interpolate",
}
EXPIRY_SLACK = 0.1
TimeLeft = Callable[[], float | None]  # seconds until the caller's deadline; None: there is none
_current: ContextVar[Call] = ContextVar("call")


class Call:
    """One call from its arrival to its end: its flow, its status, and what is told of it."""

    def __init__(
        self,
        method: str,
        metadata: Iterable[tuple[str, str | bytes]],
        time_left: TimeLeft,
        log_prompts: bool,
        address: str = "",
    ) -> None:
        self.time_left = time_left
        metadata = tuple(metadata)
        told = {key: value for key, value in metadata if isinstance(value, str)}
        self._authorization = told.get("authorization", "")
        self.idempotency_key = told.get(HEADER, "")
        self._address = address  # where it comes from, without a port
        self.caller: Caller | None = None  # until it is known
        self._log_prompts = log_prompts
        self.flow = "none" if method == "stream" else method  # a stream's is known when it has been read
        self.model = "none"  # until it is known
        self.headers: dict[str, str] = {}  # that go with the answer
        self._fields: dict[str, Any] = {}
        self.span = tracing.start_server_span(method, tracing.received(metadata))
        self._started = time.monotonic()
        _current.set(self)

    def note(self, **fields: object) -> None:
        """Add fields to the log line."""
        self._fields |= fields

    def received(self, request: Message, size: int) -> None:
        """Note what was read. size: in bytes, as it came."""
        if isinstance(request, pb.StreamRequest) and (kind := request.WhichOneof("request")):
            request = getattr(request, kind)
        self.flow = KINDS.get(type(request), self.flow)
        self.span.update_name(self.flow)
        metrics.received_bytes.labels(self.flow).inc(size)
        if self._log_prompts and (prompt := getattr(request, "prompt", "")):
            self._fields["prompt"] = prompt

    def sent(self, size: int) -> None:
        """Count bytes that go to the caller."""
        metrics.sent_bytes.labels(self.flow).inc(size)

    def ended(self, status: str) -> None:
        """Tell it all."""
        seconds = time.monotonic() - self._started
        metrics.observe_end(self.flow, self.model, status, seconds)
        tracing.finish(self.span, status)
        end = {"status": status, "seconds": round(seconds, 4)}
        fields = {"flow": self.flow, "model": self.model, **self._fields, **end}
        logger.info("%s %s", self.flow, status, extra={**fields, "trace_id": tracing.trace_id(self.span)})

    def left_status(self) -> str:
        """The status of a call whose caller has left."""
        left = self.time_left()
        # A caller whose deadline passes cancels the call itself, about when it would have expired here.
        return "cancelled" if left is None or left > EXPIRY_SLACK else "deadline_exceeded"

    @asynccontextmanager
    async def answering(
        self,
        places: Places,
        authenticator: Authenticator,
        settings: Settings,
        until_sent: ExitStack,
    ) -> AsyncIterator[None]:
        """A place and a time for the call, and its end, whatever that is. What is raised comes out again.

        until_sent: is closed when the answer has been sent, or
        cannot be sent any more; so long it has its place.
        """
        most = settings.request_timeout
        try:
            self._let_in(authenticator)
            until_sent.enter_context(places.place())
            try:
                async with asyncio.timeout(most) as limit:
                    yield
            except TimeoutError:
                if not limit.expired():
                    raise
                raise DeadlineMissed(f"it took longer than {most:g} s") from None
        except Exception as error:
            self._refused(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self.ended(self.left_status())
            raise
        self.ended("ok")

    def _let_in(self, authenticator: Authenticator) -> None:
        self.caller = authenticator.caller(self._authorization, self._address)
        if self.caller.name:
            self.note(tenant=self.caller.tenant, token=self.caller.name)

    def _refused(self, error: Exception) -> None:
        status = to_status(error)
        if status.code == code_pb2.INTERNAL:
            logger.error("unforeseen error", exc_info=error)
        self.note(reason=status.message)
        self.ended(grpc_code(status).name.lower())


def require(scope: Scope) -> None:
    """Raises Forbidden if the caller of the call that is being answered may not do this."""
    caller = _current.get().caller
    assert caller is not None
    caller.require(scope)


def note(**fields: object) -> None:
    """Add fields to the log line of the call that is being answered."""
    _current.get().note(**fields)


def tenant() -> str:
    """The tenant of the call that is being answered; empty where anybody may call."""
    caller = _current.get().caller
    assert caller is not None
    return caller.tenant


def tell(headers: Mapping[str, str]) -> None:
    """Let these go with the answer of the call: as headers over HTTP, as trailers over gRPC."""
    _current.get().headers.update(headers)


def serving(model: str) -> None:
    """Note which model answers the call."""
    call = _current.get()
    call.model = model
    call.span.set_attribute("unclip.model", model)


def identify(request_id: str) -> None:
    """Name the request of the call that is being answered, for the log and the trace."""
    call = _current.get()
    call.note(request_id=request_id)
    call.span.set_attribute("unclip.request_id", request_id)
