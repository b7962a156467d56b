"""What is in the details of a refusal."""

from __future__ import annotations

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    """The seconds that a refusal names; None if it names none."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return float(info.retry_delay.ToMilliseconds() / 1000)
    return None


def refused_by(error: grpc.aio.AioRpcError) -> str:
    """Who refused: the gateway or a stage; empty for another error."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    told = any(detail.Unpack(info) for detail in status.details) if status else False
    return info.metadata["refused_by"] if told else ""


def violations(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that a refusal names."""
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    bad = error_details_pb2.BadRequest()
    assert status is not None
    assert status.details[0].Unpack(bad)
    assert all(v.description for v in bad.field_violations)
    return [v.field for v in bad.field_violations]
