"""Servicer methods under Ray Serve: whatever they raise becomes a clean status, and nothing of a traceback leaves."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

import grpc
from google.rpc import code_pb2

from services.checkpoints.bundle import Bundle
from services.engine import Load
from services.wire.errors import DETAILS_KEY, grpc_code, to_status
from unclip.internal.v1 import sampling_pb2, stage_service_pb2

logger = logging.getLogger("unclip.stage")
Request = TypeVar("Request")
Response = TypeVar("Response")


class GrpcContext(Protocol):
    """What is used of Ray Serve's gRPC context (which pickles, and so has no cancellation or deadline)."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status code."""

    def set_details(self, details: str) -> None:
        """Set the status message."""

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        """Set what is sent after the response."""


def unary(
    empty: Callable[[], Response],
) -> Callable[[Callable[[Any, Request], Awaitable[Response]]], Callable[[Any, Request, GrpcContext], Awaitable[Response]]]:
    """Make ``async def Method(self, request)`` a servicer method; an error is answered with its status and ``empty()``."""

    def wrap(method: Callable[[Any, Request], Awaitable[Response]]) -> Callable[[Any, Request, GrpcContext], Awaitable[Response]]:
        @functools.wraps(method)
        async def answer(self: Any, request: Request, grpc_context: GrpcContext) -> Response:
            try:
                return await method(self, request)
            except Exception as error:
                _report(error, grpc_context)
                return empty()

        return _signed(answer)

    return wrap


def streaming(
    empty: Callable[[], Response],
) -> Callable[
    [Callable[[Any, Request], AsyncGenerator[Response, None]]], Callable[[Any, Request, GrpcContext], AsyncGenerator[Response, None]]
]:
    """The same for ``async def Method(self, request) -> AsyncGenerator``: an error ends the stream with an empty message.

    Ray Serve carries a status with a message only, so the last message of a failed stream is an empty one.
    """

    def wrap(
        method: Callable[[Any, Request], AsyncGenerator[Response, None]],
    ) -> Callable[[Any, Request, GrpcContext], AsyncGenerator[Response, None]]:
        @functools.wraps(method)
        async def answer(self: Any, request: Request, grpc_context: GrpcContext) -> AsyncGenerator[Response, None]:
            events = method(self, request)
            try:
                async for event in events:
                    yield event
            except Exception as error:
                _report(error, grpc_context)
                yield empty()
            finally:
                await events.aclose()

        return _signed(answer)

    return wrap


Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(answer: Method) -> Method:
    """Show the wrapper's own signature: Ray Serve hands the context to methods that name ``grpc_context``."""
    del answer.__wrapped__  # type: ignore[attr-defined]
    assert "grpc_context" in inspect.signature(answer).parameters
    return answer


def _report(error: Exception, context: GrpcContext) -> None:
    status = to_status(error)
    if status.code == code_pb2.INTERNAL:
        logger.error("unforeseen error", exc_info=error)
    context.set_code(grpc_code(status))
    context.set_details(status.message)
    context.set_trailing_metadata([(DETAILS_KEY, status.SerializeToString())])


def deadline_of(task: sampling_pb2.SamplingTask) -> float | None:
    """The task's deadline on the monotonic clock, from the time it has left."""
    return time.monotonic() + task.time_left.ToNanoseconds() / 1e9 if task.HasField("time_left") else None


def describe(bundle: Bundle) -> stage_service_pb2.DescribeResponse:
    """What every stage says of the bundle it serves."""
    manifest = bundle.manifest
    return stage_service_pb2.DescribeResponse(
        model_name=manifest.name,
        model_version=manifest.version,
        licences=[stage_service_pb2.LicenceNotice(**licence.model_dump()) for licence in manifest.licences],
    )


def load_message(load: Load) -> stage_service_pb2.EngineLoad:
    """How busy an engine is."""
    return stage_service_pb2.EngineLoad(rows_running=load.running, rows_waiting=load.waiting, steps=load.steps)


async def in_thread(function: Callable[..., Response], *arguments: Any) -> Response:
    """Run a blocking call in a thread, so that the replica keeps answering."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
