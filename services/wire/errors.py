"""Errors that have a gRPC status, in one table; nothing of a stack, a path or an address goes with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import grpc
from google.protobuf import duration_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "unclip"  # of google.rpc.ErrorInfo
# gRPC refuses metadata over 8 KiB, and the caller would then see another status.
MAX_VIOLATIONS = 16
MAX_VIOLATION_CHARACTERS = 120
MAX_RETRY_SECONDS = 3600


class ServiceError(Exception):
    """An error that a caller is told of, with the gRPC code that it has."""

    code: code_pb2.Code.ValueType = code_pb2.INTERNAL

    def details(self) -> Sequence[Message]:
        """What a program can read of it."""
        return ()


class InvalidInput(ServiceError):
    """Fields of a request are not what is allowed.

    ``violations``: (field, what is wrong and what is allowed).
    """

    code = code_pb2.INVALID_ARGUMENT

    def __init__(self, *violations: tuple[str, str]) -> None:
        self.violations = violations
        told = [f"{_clipped(field)}: {_clipped(text)}" for field, text in violations[:MAX_VIOLATIONS]]
        if len(violations) > MAX_VIOLATIONS:
            told.append(f"and {len(violations) - MAX_VIOLATIONS} more")
        super().__init__("; ".join(told[:4]) + ("; ..." if len(told) > 4 else ""))

    def details(self) -> Sequence[Message]:
        """The first violations, shortened, so that they fit into a call's metadata."""
        shown = [
            error_details_pb2.BadRequest.FieldViolation(field=_clipped(field), description=_clipped(text))
            for field, text in self.violations[:MAX_VIOLATIONS]
        ]
        return (error_details_pb2.BadRequest(field_violations=shown),)


class Overloaded(ServiceError):
    """Not now.

    ``retry_after``: seconds after which the same request should have a chance, estimated.
    ``refused_by``: the gateway or a stage's name, where it is known.
    """

    code = code_pb2.RESOURCE_EXHAUSTED

    def __init__(self, reason: str, retry_after: float, refused_by: str = "") -> None:
        self.retry_after = min(max(retry_after, 0.1), MAX_RETRY_SECONDS)
        self.refused_by = refused_by
        super().__init__(f"{reason}; try again in {math.ceil(self.retry_after)} s")

    def details(self) -> Sequence[Message]:
        """The delay, and who refused."""
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(1000 * self.retry_after))
        retry = error_details_pb2.RetryInfo(retry_delay=delay)
        if not self.refused_by:
            return (retry,)
        metadata = {"refused_by": self.refused_by}
        return retry, error_details_pb2.ErrorInfo(reason="OVERLOADED", domain=DOMAIN, metadata=metadata)


class DeadlineMissed(ServiceError):
    """The deadline has passed, or is too near even for an idle service."""

    code = code_pb2.DEADLINE_EXCEEDED


class Unauthenticated(ServiceError):
    """Nobody knows who calls."""

    code = code_pb2.UNAUTHENTICATED


class Forbidden(ServiceError):
    """The caller is known, and may not do this."""

    code = code_pb2.PERMISSION_DENIED


class StageUnavailable(ServiceError):
    """A stage does not answer, or its replica died on the way; the same request may be tried again."""

    code = code_pb2.UNAVAILABLE


class ProviderUnavailable(ServiceError):
    """The identity provider's keys are not known, so nobody can be told by its tokens; try again."""

    code = code_pb2.UNAVAILABLE


class StageMismatch(ServiceError):
    """The stages do not fit together (another model's embeddings, say); nothing a caller can change."""

    code = code_pb2.FAILED_PRECONDITION


def to_status(error: BaseException) -> status_pb2.Status:
    """The status a caller sees for an error.

    INTERNAL, without a word of detail, for anything not foreseen.
    """
    if not isinstance(error, ServiceError):
        return status_pb2.Status(
            code=code_pb2.INTERNAL, message="an error in the service; it has been logged"
        )
    return status_pb2.Status(
        code=error.code, message=str(error), details=[_packed(d) for d in error.details()]
    )


def from_status(status: status_pb2.Status) -> ServiceError | None:
    """The error behind a status that ``to_status`` made; None for one that stands for no error of ours."""
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(bad):
            return InvalidInput(*((v.field, v.description) for v in bad.field_violations))
        if detail.Unpack(retry):
            reason = status.message.partition("; try again")[0]
            return Overloaded(reason, retry.retry_delay.ToMilliseconds() / 1000)
    for kind in (DeadlineMissed, StageUnavailable, StageMismatch):
        if status.code == kind.code:
            return kind(status.message)
    return None


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """The gRPC code of a status."""
    return next(code for code in grpc.StatusCode if code.value[0] == status.code)


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _clipped(text: str) -> str:
    """At most MAX_VIOLATION_CHARACTERS, all of them ASCII.

    A status message is sent percent-encoded otherwise.
    """
    plain = text.encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= MAX_VIOLATION_CHARACTERS else f"{plain[: MAX_VIOLATION_CHARACTERS - 3]}..."
