"""What a stage's gRPC errors mean to the gateway."""

from __future__ import annotations

import logging

import grpc
import grpc.aio
from google.rpc import code_pb2, status_pb2

from services.wire.errors import (
    DETAILS_KEY,
    DeadlineMissed,
    Overloaded,
    ServiceError,
    StageMismatch,
    StageUnavailable,
    from_status,
)
from services.wire.stages import StageName, spoken

logger = logging.getLogger(__name__)
NOT_FITTING = "the stages do not fit together; the operator has to mend that"


def unavailable(name: StageName) -> StageUnavailable:
    """The error of a stage that is not there."""
    return StageUnavailable(f"the {spoken(name)} is not available; try again")


def meaning_of(error: grpc.aio.AioRpcError, name: StageName) -> ServiceError:
    """What a stage's gRPC error means to the gateway.

    A status with details was made by the stage; any other is the transport's or Ray's, whose words (actor
    ids, addresses) stay here.
    """
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineMissed("the deadline has passed")
    trailing = dict(error.trailing_metadata() or ())
    if DETAILS_KEY in trailing:
        status = status_pb2.Status.FromString(trailing[DETAILS_KEY])
        told = from_status(status)
        # The gateway sends nothing invalid, unless the stages serve different models.
        if status.code == code_pb2.INVALID_ARGUMENT:
            logger.error("%s: %s", name, status.message)
            return StageMismatch(NOT_FITTING)
        if isinstance(told, Overloaded):
            told.refused_by = name
        if told is not None:
            return told
    elif error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded(f"the {spoken(name)} is full", 1.0, name)
    logger.warning("%s: %s %s", name, error.code(), error.details())
    return unavailable(name)
