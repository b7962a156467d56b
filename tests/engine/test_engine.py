"""The engine's rules, with rows of plain Python: who runs together, who waits, who is refused, what is freed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from services.engine import (
    DeadlineMissed,
    EngineLimits,
    Event,
    Queued,
    QueueFull,
    Stay,
    StepEngine,
    StepFailed,
    Stepped,
    Watcher,
)


@dataclass(eq=False)
class Row:
    steps: int
    key: str = "a"
    step: int = 0
    poison: bool = False

    @property
    def finished(self) -> bool:
        return self.step >= self.steps


@dataclass
class Recorder:
    """Advances rows by one, after whatever ``hold`` waits for; remembers every batch."""

    batches: list[list[Row]] = field(default_factory=list)
    hold: Callable[[], object] = lambda: time.sleep(0.001)

    def __call__(self, rows: Sequence[Row]) -> None:
        self.hold()
        self.batches.append(list(rows))
        if any(row.poison for row in rows):
            raise RuntimeError("poisoned")
        for row in rows:
            row.step += 1


def engine_of(
    recorder: Recorder, max_batch: int = 4, max_running: int = 8, max_waiting: int = 8
) -> StepEngine[Row]:
    return StepEngine(recorder, EngineLimits(max_batch, max_running, max_waiting))


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_a_cancelled_caller_does_not_poison_its_batch() -> None:
    recorder = Recorder()
    engine = engine_of(recorder)
    kept, dropped = Row(6), Row(1000)
    doomed = asyncio.create_task(collect(engine.run([dropped])))
    staying = asyncio.create_task(collect(engine.run([kept])))
    while kept.step < 2:
        await asyncio.sleep(0.001)
    doomed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doomed
    at_cancel = dropped.step
    await staying
    assert kept.finished
    assert dropped.step <= at_cancel + 1
    assert engine.load.running == 0


async def test_rows_of_several_requests_share_steps() -> None:
    recorder = Recorder()
    engine = engine_of(recorder)
    rows = [Row(5), Row(3), Row(8)]
    results = await asyncio.gather(*(collect(engine.run([row])) for row in rows))
    assert [event[-1] for event in results] == [Stepped(5, 5), Stepped(3, 3), Stepped(8, 8)]
    assert len(recorder.batches) == 8
    assert [len(batch) for batch in recorder.batches] == [3, 3, 3, 2, 2, 1, 1, 1]


async def test_only_rows_of_one_key_share_a_step() -> None:
    recorder = Recorder()
    engine = engine_of(recorder)
    await asyncio.gather(*(collect(engine.run([Row(3, key=key)])) for key in "abab"))
    assert all(len({row.key for row in batch}) == 1 for batch in recorder.batches)
    assert max(len(batch) for batch in recorder.batches) == 2


async def test_a_step_has_at_most_max_batch_rows() -> None:
    recorder = Recorder()
    engine = engine_of(recorder, max_batch=2)
    await collect(engine.run([Row(2) for _ in range(5)]))
    assert max(len(batch) for batch in recorder.batches) == 2


async def test_a_group_reports_its_slowest_row() -> None:
    engine = engine_of(Recorder(), max_batch=1)
    events = await collect(engine.run([Row(2), Row(2)]))
    assert events == [Stepped(1, 2), Stepped(2, 2)]


async def test_waiting_rows_are_told_and_run_when_places_are_free() -> None:
    recorder = Recorder()
    engine = engine_of(recorder, max_running=1)
    first = asyncio.create_task(collect(engine.run([Row(3)])))
    await asyncio.sleep(0)
    events = await collect(engine.run([Row(2)]))
    assert events[0] == Queued(1)
    assert events[-1] == Stepped(2, 2)
    await first


async def test_a_full_queue_refuses_with_a_time_to_try_again() -> None:
    engine = engine_of(Recorder(), max_running=1, max_waiting=1)
    tasks = [asyncio.create_task(collect(engine.run([Row(5)]))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as refusal:
        await collect(engine.run([Row(1)]))
    assert refusal.value.retry_after >= 1
    await asyncio.gather(*tasks)


async def test_the_earliest_deadline_runs_first_and_priority_before_it() -> None:
    recorder = Recorder()
    engine = engine_of(recorder, max_batch=1, max_running=1)
    blocker = asyncio.create_task(collect(engine.run([Row(2)])))
    await asyncio.sleep(0)
    late, soon, urgent = Row(1), Row(1), Row(1)
    now = time.monotonic()
    waiting = [
        asyncio.create_task(collect(engine.run([row], deadline=now + seconds, priority=priority)))
        for row, seconds, priority in ((late, 60, 0), (soon, 30, 0), (urgent, 90, 1))
    ]
    await asyncio.gather(blocker, *waiting)
    assert [batch[0] for batch in recorder.batches[2:]] == [urgent, soon, late]


async def test_a_late_short_row_is_not_starved_by_long_ones() -> None:
    recorder = Recorder()
    engine = engine_of(recorder, max_batch=2)
    long = [asyncio.create_task(collect(engine.run([Row(60)]))) for _ in range(4)]
    while len(recorder.batches) < 5:
        await asyncio.sleep(0.001)
    await collect(engine.run([Row(5)]))
    assert len(recorder.batches) < 30
    await asyncio.gather(*long)


async def test_a_busy_time_does_not_refuse_what_an_idle_engine_can_do() -> None:
    costs, recorder = {"cheap": 0.001, "dear": 0.01}, Recorder()

    def advance(rows: Sequence[Row]) -> None:
        time.sleep(sum(costs[row.key] for row in rows))
        recorder(rows)

    engine = StepEngine(advance, EngineLimits(8, 8, 8))
    await asyncio.gather(*(collect(engine.run([Row(4, key="dear")])) for _ in range(8)))
    await collect(engine.run([Row(2, key="cheap")]))
    await collect(engine.run([Row(40, key="cheap")], deadline=time.monotonic() + 2))


async def test_a_row_that_cannot_make_its_deadline_is_refused_on_arrival() -> None:
    recorder = Recorder(hold=lambda: time.sleep(0.02))
    engine = engine_of(recorder)
    await collect(engine.run([Row(3)]))
    steps = len(recorder.batches)
    with pytest.raises(DeadlineMissed):
        await collect(engine.run([Row(1000)], deadline=time.monotonic() + 0.2))
    assert len(recorder.batches) == steps


async def test_a_row_whose_deadline_passes_leaves_at_the_next_step() -> None:
    gate = threading.Event()
    recorder = Recorder(hold=lambda: gate.wait(0.05))
    engine = engine_of(recorder)
    row = Row(1000)
    with pytest.raises(DeadlineMissed):
        await collect(engine.run([row], deadline=time.monotonic() + 0.12))
    assert 0 < row.step < 10
    assert engine.load.running == 0


async def test_a_failing_step_fails_its_rows_and_no_others() -> None:
    recorder = Recorder()
    engine = engine_of(recorder)
    bad, good = Row(3, key="bad", poison=True), Row(3, key="good")
    failed, fine = await asyncio.gather(
        collect(engine.run([bad])), collect(engine.run([good])), return_exceptions=True
    )
    assert isinstance(failed, StepFailed)
    assert not isinstance(fine, BaseException)
    assert good.finished
    await collect(engine.run([Row(2)]))


async def test_closing_ends_every_caller() -> None:
    engine = engine_of(Recorder())
    caller = asyncio.create_task(collect(engine.run([Row(10_000)])))
    await asyncio.sleep(0.02)
    await engine.close()
    with pytest.raises(StepFailed):
        await caller


class Diary(Watcher):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.notes: list[tuple[object, ...]] = []
        self.stays: list[Stay] = []

    def refused(self, reason: str) -> None:
        self.notes.append(("refused", reason))

    def started(self, rows: int, waited: float) -> None:
        self.notes.append(("started", rows, waited > 0.005))

    def stepped(self, key: object, rows: int, seconds: float) -> None:
        self.notes.append(("stepped", key, rows))

    def ended(self, ending: str, stay: Stay) -> None:
        self.notes.append(("ended", ending, stay.rows))
        self.stays.append(stay)


async def test_the_watcher_is_told_of_everything() -> None:
    diary = Diary()
    engine = StepEngine(
        Recorder(hold=lambda: time.sleep(0.005)),
        EngineLimits(max_batch=4, max_running=2, max_waiting=1),
        diary,
    )
    first = asyncio.create_task(collect(engine.run([Row(2), Row(3)])))
    await asyncio.sleep(0)
    second = asyncio.create_task(collect(engine.run([Row(1, key="b")])))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await collect(engine.run([Row(1)]))
    await asyncio.gather(first, second)
    assert ("refused", "queue_full") in diary.notes
    assert ("started", 2, False) in diary.notes
    assert ("started", 1, True) in diary.notes
    assert [n for n in diary.notes if n[0] == "stepped"] == [
        ("stepped", "a", 2),
        ("stepped", "a", 2),
        ("stepped", "a", 1),
        ("stepped", "b", 1),
    ]
    assert [n for n in diary.notes if n[0] == "ended"] == [("ended", "finished", 2), ("ended", "finished", 1)]
    assert [(s.rows, s.steps, s.occupancy, s.waited > 0.005) for s in diary.stays] == [
        (2, 3, (2 + 2 + 1) / 3 / 4, False),
        (1, 1, 1 / 4, True),
    ]
    with pytest.raises(DeadlineMissed):
        await collect(engine.run([Row(100_000)], deadline=time.monotonic() + 0.1))
    with pytest.raises(StepFailed):
        await collect(engine.run([Row(2, poison=True)]))
    leaving = asyncio.create_task(collect(engine.run([Row(1000)])))
    await asyncio.sleep(0.02)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert [n for n in diary.notes if n[0] in ("refused", "ended")][-3:] == [
        ("refused", "deadline"),
        ("ended", "failed", 1),
        ("ended", "cancelled", 1),
    ]
