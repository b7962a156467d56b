"""Batching by step: rows of many requests share network calls, joining and leaving at step boundaries."""

from services.engine.costs import CallSizes, CostModel, Segment, Timeline, segments
from services.engine.engine import StepEngine, Task
from services.engine.errors import (
    DeadlineMissed,
    DeadlineUnreachable,
    EngineError,
    EngineStopped,
    Overloaded,
    QueueFull,
    StepFailed,
)
from services.engine.events import Event, Finished, Queued, Shown, Stepped
from services.engine.jobs import Plan
from services.engine.scheduler import EngineLimits, Load, NetworkCost, Priority, Scheduler
from services.engine.watcher import Ending, Refusal, Stay, Watcher

__all__ = [
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
