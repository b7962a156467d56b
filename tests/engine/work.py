"""Tasks and a device of plain Python, for the engine's tests."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from services.engine import CallSizes, EngineLimits, Event, Plan, Segment, StepEngine, Watcher


@dataclass(eq=False)
class Row:
    step: int = 0
    poison: bool = False


@dataclass(eq=False)
class Work:
    """A task of plain Python: one row or more, each with the same plan."""

    plan: Plan
    count: int = 1
    poison: bool = False
    previews: bool = False
    rows: list[Row] = field(default_factory=list)
    thread: int = 0

    @property
    def plans(self) -> list[Plan]:
        return [self.plan] * self.count

    def start(self) -> list[Row]:
        self.thread = threading.get_ident()
        self.rows = [Row(poison=self.poison) for _ in range(self.count)]
        return self.rows

    def preview(self) -> object | None:
        return self.rows[0].step if self.previews else None

    def finish(self) -> object:
        return [row.step for row in self.rows]


def work(steps: int = 2, count: int = 1, *, poison: bool = False, previews: bool = False) -> Work:
    return Work([Segment("net", steps)], count, poison, previews)


@dataclass
class Device:
    """Advances rows by one, when ``gate`` lets it; remembers how many were in each batch."""

    batches: list[int] = field(default_factory=list)
    gate: Callable[[], object] = lambda: None

    def __call__(self, rows: Sequence[Row]) -> None:
        self.gate()
        self.batches.append(len(rows))
        if any(row.poison for row in rows):
            raise RuntimeError("poisoned")
        for row in rows:
            row.step += 1


def engine_of(
    device: Device,
    watcher: Watcher | None = None,
    *,
    running: int = 8,
    waiting: int = 8,
    hang: float = 30.0,
    heartbeat: float = 5.0,
) -> StepEngine[Row]:
    return StepEngine(
        device,
        EngineLimits(running, waiting),
        CallSizes(4),
        watcher,
        hang_seconds=hang,
        heartbeat_seconds=heartbeat,
    )


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]
