"""Errors to gRPC statuses, in one table; nothing of a stack, a path or an address goes with them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.engine import DeadlineMissed, QueueFull

logger = logging.getLogger(__name__)
DETAILS_KEY = "grpc-status-details-bin"


class InvalidInput(ValueError):
    """A request's field is not what is allowed. ``violations`` are (field, what is wrong and what is allowed)."""

    def __init__(self, *violation: str, violations: Sequence[tuple[str, str]] = ()) -> None:
        self.violations = tuple(violations) or ((violation[0], violation[1]),)
        super().__init__("; ".join(f"{field}: {text}" for field, text in self.violations))


class StageUnavailable(Exception):
    """A stage does not answer, or its replica died on the way; the same request may be tried again."""


class StageMismatch(Exception):
    """The stages do not fit together (another model's embeddings, say); nothing a caller can change."""


class StageRefused(Exception):
    """A stage answered with a status of its own, which goes to the caller as it is."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


def from_stage(stage: str, error: grpc.aio.AioRpcError | None) -> Exception:
    """What a stage's gRPC error means to the gateway; None stands for a stream that closed without a result.

    A status with details was made by the stage; any other is the transport's or Ray's, whose words (actor ids,
    addresses) stay here.
    """
    if error is not None:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineMissed("the deadline has passed")
        trailing = dict(error.trailing_metadata() or ())
        if DETAILS_KEY in trailing:
            return _refusal(stage, status_pb2.Status.FromString(trailing[DETAILS_KEY]))
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return QueueFull(retry_after=1.0)
        logger.warning("%s: %s %s", stage, error.code(), error.details())
    return StageUnavailable(f"the {stage.replace('_', ' ')} is not available; try again")


def _refusal(stage: str, status: status_pb2.Status) -> Exception:
    """What a stage itself answered. The gateway sends it nothing invalid, unless the stages serve different models."""
    if status.code != code_pb2.INVALID_ARGUMENT:
        return StageRefused(status)
    logger.error("%s: %s", stage, status.message)
    return StageMismatch("the stages do not fit together; the operator has to mend that")


def to_status(error: BaseException) -> status_pb2.Status:
    """The status a caller sees for an error: INTERNAL, without a word of detail, for anything not foreseen."""
    if isinstance(error, InvalidInput):
        bad = error_details_pb2.BadRequest(
            field_violations=[{"field": field, "description": text} for field, text in error.violations]
        )
        return _status(code_pb2.INVALID_ARGUMENT, str(error), bad)
    if isinstance(error, QueueFull):
        whole = math.ceil(error.retry_after)
        retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=whole))
        return _status(code_pb2.RESOURCE_EXHAUSTED, f"the queue is full; try again in {whole} s", retry)
    if isinstance(error, DeadlineMissed):
        return _status(code_pb2.DEADLINE_EXCEEDED, str(error))
    if isinstance(error, StageUnavailable):
        return _status(code_pb2.UNAVAILABLE, str(error))
    if isinstance(error, StageMismatch):
        return _status(code_pb2.FAILED_PRECONDITION, str(error))
    if isinstance(error, StageRefused):
        return error.status
    return _status(code_pb2.INTERNAL, "an error in the service; it has been logged")


def _status(
    code: int, message: str, *details: error_details_pb2.BadRequest | error_details_pb2.RetryInfo
) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code, message=message, details=packed)


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """The gRPC code of a status."""
    return next(code for code in grpc.StatusCode if code.value[0] == status.code)
