"""The engine around the scheduler: its thread, its callers, and what it does when something goes wrong."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from services.engine import (
    Alive,
    CallSizes,
    DeadlineMissed,
    DeadlineUnreachable,
    EngineLimits,
    Finished,
    Queued,
    QueueFull,
    Segment,
    Shown,
    Stay,
    StepEngine,
    StepFailed,
    Stepped,
    Watcher,
)
from services.engine.engine import FIRST_STEPS
from tests.engine.work import Device, Work, collect, engine_of, work


async def test_a_cancelled_caller_does_not_poison_its_batch() -> None:
    device = Device()
    engine = engine_of(device)
    kept = work(50)
    dropped = work(10**6)
    doomed = asyncio.create_task(collect(engine.run(dropped)))
    staying = asyncio.create_task(collect(engine.run(kept)))
    while not kept.rows or kept.rows[0].step < 2:
        await asyncio.sleep(0)
    doomed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doomed
    at_cancel = dropped.rows[0].step
    assert (await staying)[-1] == Finished([50])
    assert dropped.rows[0].step <= at_cancel + 1
    assert engine.load.running == 0


async def test_requests_share_steps_and_end_in_their_results() -> None:
    device = Device()
    engine = engine_of(device)
    results = await asyncio.gather(*(collect(engine.run(work(steps))) for steps in (5, 3, 8)))
    assert [events[-1] for events in results] == [Finished([5]), Finished([3]), Finished([8])]
    assert device.batches == [3, 3, 3, 2, 2, 1, 1, 1]


async def test_all_that_touches_tensors_runs_in_the_engines_thread() -> None:
    task = work()
    await collect(engine_of(Device()).run(task))
    assert task.thread != threading.get_ident()


async def test_waiting_rows_are_told_and_run_when_places_are_free() -> None:
    engine = engine_of(Device(), running=1)
    first = asyncio.create_task(collect(engine.run(work(3))))
    await asyncio.sleep(0)
    events = await collect(engine.run(work(2)))
    assert events[0] == Queued(1)
    assert events[-2:] == [Stepped("net", 2, 2), Finished([2])]
    await first


async def test_a_slow_reader_loses_no_preview_and_no_networks_last_step() -> None:
    task = Work([Segment("base", 6), Segment("up", 3)], previews=True)
    engine = engine_of(Device())
    events = engine.run(task)
    told = [await anext(events)]
    while not task.rows or task.rows[0].step < 9:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # all is done before the caller reads on
    told += [event async for event in events]
    assert [e.preview for e in told if isinstance(e, Shown)] == list(range(1, 10))
    steps = [e for e in told if isinstance(e, Stepped)]
    assert Stepped("base", 6, 6) in steps
    assert steps[-1] == Stepped("up", 3, 3)
    assert told[-1] == Finished([9])


async def test_progress_is_merged_for_a_slow_reader() -> None:
    task = work(500)
    engine = engine_of(Device())
    events = engine.run(task)
    await anext(events)
    while not task.rows or task.rows[0].step < 500:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert len([event async for event in events]) < 10


async def test_a_group_reports_its_slowest_row() -> None:
    engine = StepEngine(Device(), EngineLimits(8, 8), CallSizes(1))
    events = await collect(engine.run(work(2, count=2)))
    steps = [e.step for e in events if isinstance(e, Stepped)]
    assert steps == sorted(steps)
    assert steps[-1] == 2
    assert events[-1] == Finished([2, 2])


async def test_a_deadline_is_kept_in_the_middle_of_a_step() -> None:
    gate = threading.Event()
    engine = engine_of(Device(gate=gate.wait))
    async with asyncio.timeout(5):
        with pytest.raises(DeadlineMissed):
            await collect(engine.run(work(), deadline=time.monotonic() + 0.1))
    assert engine.load.running == 0
    gate.set()
    assert (await collect(engine.run(work())))[-1] == Finished([2])


async def test_a_caller_hears_something_while_nothing_happens() -> None:
    """One that runs: a sign of life. One that waits: its place."""
    gate = threading.Event()
    engine = engine_of(Device(gate=gate.wait), running=1, heartbeat=0.01)
    running = engine.run(work(1))
    assert await anext(running) == Queued(0)
    assert await anext(running) == Alive()
    waiting = engine.run(work(1))
    assert [await anext(waiting) for _ in range(3)] == [Queued(1)] * 3
    gate.set()
    assert (await collect(running))[-1] == Finished([1])
    assert (await collect(waiting))[-1] == Finished([1])


class Diary(Watcher):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.notes: list[tuple[object, ...]] = []
        self.stays: list[Stay] = []

    def refused(self, reason: str) -> None:
        self.notes.append(("refused", reason))

    def started(self, rows: int, waited: float) -> None:
        self.notes.append(("started", rows))

    def stepped(self, network: str, rows: int, occupancy: float, seconds: float, full_seconds: float) -> None:
        self.notes.append(("stepped", network, rows))

    def ended(self, ending: str, stay: Stay) -> None:
        self.notes.append(("ended", ending, stay.rows))
        self.stays.append(stay)


async def test_the_watcher_is_told_of_everything() -> None:
    diary = Diary()
    engine = engine_of(Device(), diary, running=2, waiting=1)
    first = asyncio.create_task(collect(engine.run(work(3, count=2))))
    await asyncio.sleep(0)
    second = asyncio.create_task(collect(engine.run(work(1))))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await collect(engine.run(work(1)))
    await asyncio.gather(first, second)
    assert ("refused", "queue_full") in diary.notes
    assert [n for n in diary.notes if n[0] in ("started", "stepped")] == [
        ("started", 2),
        ("stepped", "net", 2),
        ("stepped", "net", 2),
        ("stepped", "net", 2),
        ("started", 1),
        ("stepped", "net", 1),
    ]
    assert [n for n in diary.notes if n[0] == "ended"] == [("ended", "finished", 2), ("ended", "finished", 1)]
    assert [(s.rows, s.steps, s.occupancy) for s in diary.stays] == [(2, 3, 0.5), (1, 1, 0.25)]
    with pytest.raises((DeadlineMissed, DeadlineUnreachable)):
        await collect(engine.run(work(10**9), deadline=time.monotonic() + 0.1))
    with pytest.raises(StepFailed):
        await collect(engine.run(work(poison=True)))
    leaving = asyncio.create_task(collect(engine.run(work(10**6))))
    await asyncio.sleep(0.02)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert [n for n in diary.notes if n[0] in ("refused", "ended")][-3:] == [
        ("refused", "deadline"),
        ("ended", "failed", 1),
        ("ended", "cancelled", 1),
    ]


async def test_nothing_is_learnt_of_the_first_steps_of_a_kind() -> None:
    engine = engine_of(Device())
    await collect(engine.run(work(FIRST_STEPS)))
    assert not engine.load.costs
    await collect(engine.run(work(1)))
    assert {cost.network for cost in engine.load.costs} == {"net"}
