"""The gateway as commands see it: calls that wait as long as they are told to, and errors as exit codes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from rich.console import Console

from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc as pb_grpc

TRY_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_TRY_AGAIN = 3
console = Console(stderr=True)
Result = TypeVar("Result")


class Client:
    """A gateway at an address.

    wait: a full service is asked again after the delay it tells, within the timeout.
    """

    def __init__(self, stub: pb_grpc.ImageServiceStub, address: str, timeout: float, *, wait: bool) -> None:
        self._stub = stub
        self._address = address
        self._deadline = time.monotonic() + timeout
        self._wait = wait

    def rank(self, request: pb.RankCaptionsRequest) -> pb.RankCaptionsResponse:
        """Which caption fits best."""
        return self._call(lambda: self._stub.RankCaptions(request, timeout=self._left))

    def model(self) -> pb.GetModelResponse:
        """What is served."""
        return self._call(lambda: self._stub.GetModel(pb.GetModelRequest(), timeout=self._left))

    def stream(self, request: pb.StreamRequest) -> Iterator[pb.StreamResponse]:
        """What happens to a request's pictures. It is asked again only while there is none."""
        begun = False
        while True:
            try:
                for response in self._stub.Stream(request, timeout=self._left):
                    begun = begun or response.HasField("picture")
                    yield response
                return
            except grpc.RpcError as error:
                self._wait_or_leave(cast(grpc.Call, error), may_wait=not begun)

    @property
    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def _call(self, attempt: Callable[[], Result]) -> Result:
        while True:
            try:
                return attempt()
            except grpc.RpcError as error:
                self._wait_or_leave(cast(grpc.Call, error))

    def _wait_or_leave(self, error: grpc.Call, *, may_wait: bool = True) -> None:
        """Wait as long as a full service says, or end the command with the error's exit code."""
        delay = retry_delay(error)
        if self._wait and may_wait and delay is not None and delay < self._left:
            told = f"{error.details()} (--no-wait gives up at once)"
            console.print(told, style="yellow", markup=False, highlight=False)
            time.sleep(delay)
            return
        for line in explain(error, self._address):
            console.print(line, style="red", markup=False, highlight=False)
        sys.exit(exit_code(error))


def retry_delay(error: grpc.Call) -> float | None:
    """The seconds after which a refused call may be made again.

    None if it was not refused for being too much now.
    """
    status = rpc_status.from_call(error)
    info = error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return info.retry_delay.ToMilliseconds() / 1000
    return None


def exit_code(error: grpc.Call) -> int:
    """What the command ends with."""
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_delay(error) is None:
        return EXIT_BAD_INPUT  # a message that is too large, which trying again does not mend
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return EXIT_BAD_INPUT
    return EXIT_TRY_AGAIN if code in TRY_AGAIN else EXIT_FAILED


def explain(error: grpc.Call, address: str) -> list[str]:
    """What to tell a person of a failed call, a line for each wrong field."""
    status = rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    for detail in status.details if status else ():
        if detail.Unpack(bad):
            return [f"{v.field} {v.description}" for v in bad.field_violations]
    if error.code() is grpc.StatusCode.UNAVAILABLE and status is None:
        return [f"nothing answers at {address}; is the gateway running? (`make serve` starts one)"]
    return [error.details() or error.code().name]
