"""Batching by step: rows of many requests share network calls, joining and leaving at step boundaries."""

from services.engine.engine import (
    DeadlineMissed,
    EngineLimits,
    Event,
    Load,
    Queued,
    QueueFull,
    StepEngine,
    StepFailed,
    Stepped,
)
from services.engine.watcher import Ending, Refusal, Stay, Watcher

__all__ = [
    "DeadlineMissed",
    "Ending",
    "EngineLimits",
    "Event",
    "Load",
    "QueueFull",
    "Queued",
    "Refusal",
    "Stay",
    "StepEngine",
    "StepFailed",
    "Stepped",
    "Watcher",
]
