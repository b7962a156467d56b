"""What an engine tells the caller of a task, and how it is kept until the caller reads it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from services.engine.errors import DeadlineMissed


@dataclass(frozen=True)
class Queued:
    """The rows wait; ``position`` rows are served before them."""

    position: int


@dataclass(frozen=True)
class Stepped:
    """A step was taken in a network: the slowest row has done ``step`` of its ``steps`` there."""

    network: str
    step: int
    steps: int


@dataclass(frozen=True)
class Shown:
    """A preview, as the task made it."""

    preview: Any


@dataclass(frozen=True)
class Finished:
    """The result, as the task made it. Nothing comes after it."""

    result: Any


@dataclass(frozen=True)
class Alive:
    """Nothing has happened for a while, and the engine is there."""


Event = Queued | Stepped | Shown | Alive | Finished
# Seconds between two tellings of progress. A message takes some milliseconds of several processes, and nobody
# sees more.
PACE = 0.1


class Outbox:
    """Events for one caller, who may be slow.

    The first step and the last of each network are told at once, others every PACE seconds. Progress that was
    not read is replaced by newer progress in the same network. Previews, the last step of a network and the
    result are never dropped.
    """

    def __init__(self) -> None:
        # Filled by the worker's thread; told with the step they belong to.
        self.previews: deque[Shown] = deque()
        self._events: deque[Event] = deque()
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._told = -math.inf  # when progress was last read
        self._later: asyncio.TimerHandle | None = None  # wakes the caller for progress

    def put(self, event: Event, *, wake: bool = True) -> None:
        """Append an event. wake: false if another one follows at once."""
        if isinstance(event, Stepped) and self._events:
            last = self._events[-1]
            if isinstance(last, Stepped) and last.network == event.network and last.step < last.steps:
                self._events.pop()
        self._events.append(event)
        at_once = not isinstance(event, Stepped) or event.step == event.steps or bool(self.previews)
        while self.previews:
            self._events.append(self.previews.popleft())
        if wake:
            self._wake(0.0 if at_once else self._told + PACE - time.monotonic())

    def _wake(self, seconds: float) -> None:
        """The caller, in so many seconds."""
        if seconds <= 0:
            self._changed.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(seconds, self._changed.set)

    def fail(self, error: Exception) -> None:
        """End the caller with an error, once it has read what came before."""
        self._error = self._error or error
        self._changed.set()

    async def take(self, deadline: float = math.inf, patience: float = math.inf) -> list[Event]:
        """All events since the last time.

        Waits until there is one, or ``patience`` seconds. Raises what ``fail`` was told, or DeadlineMissed.
        """
        left = deadline - time.monotonic()
        wait = min(left, patience)
        try:
            # Not wait_for: up to Python 3.11 it loses a cancellation that comes together with an event.
            async with asyncio.timeout(None if wait == math.inf else max(0.0, wait)):
                await self._changed.wait()
        except TimeoutError:
            if left <= patience:
                raise DeadlineMissed("the deadline has passed") from None
            return []
        self._changed.clear()
        events = list(self._events)
        self._events.clear()
        if any(isinstance(event, Stepped) for event in events):
            self._told = time.monotonic()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if not events and self._error is not None:
            raise self._error
        if self._error is not None:
            self._changed.set()  # raised at the next turn
        return events
