"""Batching by step: rows of many requests share network calls, joining and leaving at step boundaries."""

from services.engine.capacity import EngineLimits
from services.engine.costs import CallSizes, CostModel, Segment, Timeline, segments
from services.engine.engine import StepEngine
from services.engine.errors import (
    DeadlineMissed,
    DeadlineUnreachable,
    EngineError,
    EngineStopped,
    Overloaded,
    QueueFull,
    StepFailed,
)
from services.engine.events import Alive, Event, Finished, Queued, Shown, Stepped
from services.engine.jobs import Plan, Priority
from services.engine.scheduler import Load, NetworkCost, Scheduler
from services.engine.watcher import Ending, Refusal, Stay, Watcher
from services.engine.worker import Task

__all__ = [
    "Alive",
    "CallSizes",
    "CostModel",
    "DeadlineMissed",
    "DeadlineUnreachable",
    "Ending",
    "EngineError",
    "EngineLimits",
    "EngineStopped",
    "Event",
    "Finished",
    "Load",
    "NetworkCost",
    "Overloaded",
    "Plan",
    "Priority",
    "QueueFull",
    "Queued",
    "Refusal",
    "Scheduler",
    "Segment",
    "Shown",
    "Stay",
    "StepEngine",
    "StepFailed",
    "Stepped",
    "Task",
    "Timeline",
    "Watcher",
    "segments",
]
