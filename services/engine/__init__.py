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

__all__ = [
    "DeadlineMissed",
    "EngineLimits",
    "Event",
    "Load",
    "QueueFull",
    "Queued",
    "StepEngine",
    "StepFailed",
    "Stepped",
]
