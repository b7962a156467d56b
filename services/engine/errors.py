"""Why an engine refuses work, or does not finish it."""

from __future__ import annotations


class EngineError(Exception):
    """The base of all of them."""


class Overloaded(EngineError):
    """Not now. ``retry_after``: seconds, estimated."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class QueueFull(Overloaded):
    """As many rows wait as may."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the queue is full", retry_after)


class DeadlineUnreachable(Overloaded):
    """The work, or work that was admitted before it, would be late."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the deadline cannot be met now", retry_after)


class DeadlineMissed(EngineError):
    """The deadline has passed, or is too near even for an idle engine."""


class StepFailed(EngineError):
    """A step that the work was part of raised; its cause is chained and logged."""


class EngineStopped(EngineError):
    """The engine is shutting down, or a step of it hangs; another replica may do the work."""
