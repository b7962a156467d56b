"""What an engine tells of itself as it works; metrics and traces listen here."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

Refusal = Literal["queue_full", "deadline"]
Ending = Literal["finished", "cancelled", "deadline", "failed"]


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

    def ended(self, ending: Ending, rows: int) -> None:
        """A request's rows have left."""
