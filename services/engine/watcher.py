"""What an engine tells of itself as it works; metrics and traces listen here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Refusal = Literal["queue_full", "deadline"]
Ending = Literal["finished", "cancelled", "deadline", "failed"]


@dataclass(frozen=True)
class Stay:
    """What a task had of the engine.

    waited: seconds until its first step; steps: those it was part of; row_steps: the same counted once for
    each of its rows; occupancy: how full these steps were, in [0, 1].
    """

    rows: int
    waited: float
    steps: int
    row_steps: int
    occupancy: float


class Watcher:
    """Listens to an engine, on its event loop.

    Every method does nothing here; a listener overrides what it wants.
    """

    def refused(self, reason: Refusal) -> None:
        """A task was turned away when it arrived."""

    def started(self, rows: int, waited: float) -> None:
        """A task's rows take their first step, ``waited`` seconds after they came."""

    def stepped(self, network: str, rows: int, occupancy: float, seconds: float, full_seconds: float) -> None:
        """One step of ``rows`` rows took ``seconds``; occupancy: how full it was, in [0, 1].

        full_seconds: what its work takes in full calls.
        """

    def busy(self, running: int, waiting: int) -> None:
        """How many rows have begun and how many wait, whenever that changes."""

    def ended(self, ending: Ending, stay: Stay) -> None:
        """A task has left; told in the context that its generator is closed in."""
