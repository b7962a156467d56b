"""Between the engine and the wire: its events, errors, load and deadlines as messages and statuses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from services import engine
from services.engine import EngineLimits, Load, Priority
from services.wire.errors import DeadlineMissed, Overloaded, ServiceError, StageUnavailable
from unclip.internal.v1 import sampling_pb2


def to_service_error(error: engine.EngineError) -> ServiceError:
    """What a caller is told of an engine's error.

    Work that broke on the way may be tried on another replica.
    """
    if isinstance(error, engine.Overloaded):
        return Overloaded(str(error), error.retry_after)
    if isinstance(error, engine.DeadlineMissed):
        return DeadlineMissed(str(error))
    return StageUnavailable(f"{error}; try again")


def deadline_of(task: sampling_pb2.SamplingTask) -> float:
    """The task's deadline on the monotonic clock, from the time it has left; infinite if it has none."""
    return time.monotonic() + task.time_left.ToNanoseconds() / 1e9 if task.HasField("time_left") else math.inf


def priority_of(task: sampling_pb2.SamplingTask) -> Priority:
    """Whose work goes first."""
    return "batch" if task.priority == sampling_pb2.PRIORITY_BATCH else "interactive"


def load_message(
    load: Load, limits: EngineLimits, replica: str, side_of: Callable[[str], int]
) -> sampling_pb2.EngineLoad:
    """How busy an engine is. side_of(network): of the pictures it makes, in px; 0: none."""
    costs = [
        sampling_pb2.NetworkCost(size=side_of(c.network), seconds=c.seconds, evaluations=c.evaluations)
        for c in load.costs
    ]
    return sampling_pb2.EngineLoad(
        rows_running=load.running,
        rows_waiting=load.waiting,
        steps=load.steps,
        replica=replica,
        max_rows=limits.max_running + limits.max_waiting,
        backlog_seconds=load.backlog_seconds,
        costs=costs,
    )
