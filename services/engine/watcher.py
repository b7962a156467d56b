"""What an engine tells of itself as it works; metrics and traces listen here."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

Refusal = Literal["queue_full", "deadline"]
Ending = Literal["finished", "cancelled", "deadline", "failed"]


@dataclass(frozen=True)
class Stay:
    """What a request's rows had of the engine: how many they were, the seconds they waited for places, the steps they
    were part of, and the mean of rows over the most there may be in those steps' batches."""

    rows: int
    waited: float
    steps: int
    occupancy: float


class Watcher:
    """Listens to an engine, on its event loop. Every method does nothing here; a listener overrides what it wants."""

    def refused(self, reason: Refusal) -> None:
        """A request was turned away when it arrived."""

    def started(self, rows: int, waited: float) -> None:
        """A request's rows have places, after ``waited`` seconds in the queue."""

    def stepped(self, key: Hashable, rows: int, seconds: float) -> None:
        """One step of ``rows`` rows took ``seconds``."""

    def busy(self, running: int, waiting: int) -> None:
        """How many rows have places and how many wait, whenever that changes."""

    def ended(self, ending: Ending, stay: Stay) -> None:
        """A request's rows have left; told in the context that the request's generator is closed in."""
