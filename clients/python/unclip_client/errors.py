"""What a call may end in instead of a result: an exception for each kind of status."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"


class UnclipError(Exception):
    """A call that has failed. code: gRPC's."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


class InvalidRequest(UnclipError):
    """Something in the request is not what is allowed. fields: what is wrong with each, by name."""

    fields: dict[str, str]


class ServiceFull(UnclipError):
    """The service is full, or cannot be in time now. retry_after: seconds; refused_by: who said so."""

    retry_after: float
    refused_by: str


class DeadlineExceeded(UnclipError):
    """The time was over, or too short even for an idle service."""


class Unavailable(UnclipError):
    """The service, or a stage that the request needs, does not answer. Try again."""


class ServiceFault(UnclipError):
    """Anything else, which only the service's operator can mend."""


def error_of(error: grpc.RpcError, address: str) -> UnclipError:
    """The exception for a call that gRPC says has failed. address: of the service, for its message."""
    code: grpc.StatusCode = error.code()
    message = error.details() or code.name
    status = _status(error)
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    info = error_details_pb2.ErrorInfo()
    known = {id(part) for part in (bad, retry, info) for detail in status.details if detail.Unpack(part)}
    if id(bad) in known or code is grpc.StatusCode.INVALID_ARGUMENT:
        invalid = InvalidRequest(message, code)
        invalid.fields = {violation.field: violation.description for violation in bad.field_violations}
        return invalid
    if id(retry) in known:
        full = ServiceFull(message, code)
        full.retry_after = retry.retry_delay.ToMilliseconds() / 1000
        full.refused_by = info.metadata.get("refused_by", "")
        return full
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:  # a message that is too large
        invalid = InvalidRequest(message, code)
        invalid.fields = {}
        return invalid
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(message, code)
    if code is grpc.StatusCode.UNAVAILABLE:
        nothing = f"nothing answers at {address}; is the gateway running? (`make serve` starts one)"
        return Unavailable(message if status.code else nothing, code)
    return ServiceFault(message, code)


def _status(error: grpc.RpcError) -> status_pb2.Status:
    """The rich status of a failed call; an empty one if it has none."""
    metadata: Any = error.trailing_metadata() or ()
    trailing = dict(metadata)
    try:
        return status_pb2.Status.FromString(trailing.get(DETAILS_KEY, b""))
    except DecodeError:  # not of this service
        return status_pb2.Status()
