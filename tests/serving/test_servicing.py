"""Servicer methods under Ray Serve: errors become clean statuses, streams are closed."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from services.serving import servicing
from services.wire.errors import DETAILS_KEY, InvalidInput


class Context:
    """Records what a servicer sets."""

    def __init__(self) -> None:
        self.code: Any = None
        self.details = ""
        self.trailing: dict[str, Any] = {}

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return []

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        self.trailing = dict(trailing_metadata)


class Stage:
    """Methods that answer, refuse and break."""

    closed = False

    @servicing.unary(lambda: "empty")
    async def Unary(self, request: str) -> str:
        """Answer unless told otherwise."""
        if request == "bad":
            raise InvalidInput(("request", "is bad"))
        if request == "broken":
            raise RuntimeError("/secret/path")
        return request

    @servicing.streaming(lambda: "empty")
    async def Stream(self, request: str) -> AsyncGenerator[str, None]:
        """Two messages, then an error if told so."""
        try:
            yield "one"
            yield "two"
            if request == "broken":
                raise RuntimeError("/secret/path")
        finally:
            self.closed = True


def test_ray_serve_sees_the_context_parameter() -> None:
    assert "grpc_context" in inspect.signature(Stage.Unary).parameters
    assert inspect.isasyncgenfunction(Stage.Stream)


async def test_answers_pass() -> None:
    context = Context()
    assert await Stage().Unary("fine", context) == "fine"
    assert context.code is None


@pytest.mark.parametrize(
    ("request_", "code"), [("bad", grpc.StatusCode.INVALID_ARGUMENT), ("broken", grpc.StatusCode.INTERNAL)]
)
async def test_errors_become_statuses_without_secrets(request_: str, code: grpc.StatusCode) -> None:
    context = Context()
    assert await Stage().Unary(request_, context) == "empty"
    assert context.code is code
    status = status_pb2.Status.FromString(context.trailing[DETAILS_KEY])
    assert status.code == code.value[0]
    assert "secret" not in context.details + str(status)


async def test_a_failed_stream_ends_with_an_empty_message_that_carries_the_status() -> None:
    context = Context()
    assert [m async for m in Stage().Stream("broken", context)] == ["one", "two", "empty"]
    assert context.code is grpc.StatusCode.INTERNAL


async def test_a_stream_that_is_left_is_closed() -> None:
    stage = Stage()
    events = stage.Stream("fine", Context())
    assert await anext(events) == "one"
    await events.aclose()
    assert stage.closed
