"""What goes wrong in an engine, and who is told of it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from services.engine import (
    EngineStopped,
    Finished,
    Segment,
    Stay,
    StepFailed,
    Watcher,
    events,
)
from services.engine.events import Outbox, Queued, Shown, Stepped
from tests.engine.work import Device, Row, Work, collect, engine_of, work


async def test_a_step_that_raises_fails_its_rows_and_no_others() -> None:
    engine = engine_of(Device())
    bad = Work([Segment("net", 3, 1, (1,))], poison=True)
    failed, fine = await asyncio.gather(
        collect(engine.run(bad)), collect(engine.run(work(3))), return_exceptions=True
    )
    assert isinstance(failed, StepFailed)
    assert not isinstance(fine, BaseException)
    assert fine[-1] == Finished([3])
    engine.check()


async def test_a_task_that_cannot_start_fails_alone_and_makes_nothing_unhealthy() -> None:
    class Unstartable(Work):
        def start(self) -> list[Row]:
            raise RuntimeError("no")

    engine = engine_of(Device())
    for _ in range(4):
        failed, fine = await asyncio.gather(
            collect(engine.run(Unstartable([Segment("net", 2)]))),
            collect(engine.run(work(2))),
            return_exceptions=True,
        )
        assert isinstance(failed, StepFailed)
        assert not isinstance(fine, BaseException)
        assert fine[-1] == Finished([2])
    engine.check()


async def test_a_preview_that_cannot_be_made_is_left_out() -> None:
    class Unshowable(Work):
        def preview(self) -> object | None:
            raise RuntimeError("no")

    engine = engine_of(Device())
    assert (await collect(engine.run(Unshowable([Segment("net", 2)]))))[-1] == Finished([2])
    engine.check()


@pytest.mark.parametrize("method", ["start", "finish"])
async def test_a_device_that_fails_every_task_is_unhealthy(method: str) -> None:
    def broken() -> object:
        raise RuntimeError("the device is lost")

    engine = engine_of(Device())
    for _ in range(3):
        engine.check()
        task = work(2)
        setattr(task, method, broken)
        with pytest.raises(StepFailed):
            await collect(engine.run(task))
    with pytest.raises(EngineStopped):
        engine.check()
    assert (await collect(engine.run(work(2))))[-1] == Finished([2])
    engine.check()  # it has come back


@pytest.mark.parametrize("turns", range(4))
async def test_a_caller_that_leaves_just_as_something_happens_has_left(turns: int) -> None:
    outbox = Outbox()
    caller = asyncio.create_task(outbox.take(time.monotonic() + 60, 30))
    await asyncio.sleep(0.01)
    outbox.put(Queued(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    left_in_time = caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled() or not left_in_time


async def test_progress_is_told_at_once_and_then_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PACE", 3600.0)
    outbox = Outbox()
    outbox.put(Stepped("base", 1, 9))
    assert await outbox.take() == [Stepped("base", 1, 9)]
    outbox.put(Stepped("base", 2, 9))
    outbox.put(Stepped("base", 3, 9))
    assert await outbox.take(patience=0.01) == []
    outbox.put(Stepped("base", 9, 9))
    assert await outbox.take(patience=0.0) == [Stepped("base", 9, 9)]
    outbox.put(Stepped("up", 1, 3))
    outbox.put(Finished("picture"))
    assert await outbox.take(patience=0.0) == [Stepped("up", 1, 3), Finished("picture")]


async def test_a_preview_is_told_at_once() -> None:
    outbox = Outbox()
    outbox.put(Stepped("base", 1, 9))
    assert await outbox.take() == [Stepped("base", 1, 9)]
    outbox.previews.append(Shown("preview"))
    outbox.put(Stepped("base", 2, 9))
    assert await outbox.take(patience=0.0) == [Stepped("base", 2, 9), Shown("preview")]


async def test_progress_comes_without_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PACE", 0.01)
    outbox = Outbox()
    for step in (1, 2):
        outbox.put(Stepped("base", step, 9))
        assert await outbox.take(patience=60) == [Stepped("base", step, 9)]


async def test_a_result_that_hangs_is_noticed() -> None:
    gate = threading.Event()

    class Hanging(Work):
        def finish(self) -> object:
            gate.wait()
            return super().finish()

    engine = engine_of(Device(), hang=0.005)
    with pytest.raises(EngineStopped):
        await collect(engine.run(Hanging([Segment("net", 2)])))
    with pytest.raises(EngineStopped):
        engine.check()
    gate.set()
    while engine._hangs:
        await asyncio.sleep(0.01)
    assert (await collect(engine.run(work())))[-1] == Finished([2])


async def test_the_first_step_of_a_network_which_warms_up_teaches_nothing() -> None:
    slow = iter([0.3, 0.0, 0.0, 0.0])
    engine = engine_of(Device(gate=lambda: time.sleep(next(slow))))
    await collect(engine.run(work(1)))
    assert not list(engine._scheduler.costs.networks)
    await collect(engine.run(work(3), deadline=time.monotonic() + 0.5))
    costs = engine.load.costs
    assert [cost.evaluations for cost in costs] == [1, engine._scheduler.costs.sizes.full("net")]
    assert costs[0].seconds < 0.1


async def test_a_result_that_cannot_be_made_fails_alone() -> None:
    class Unfinishable(Work):
        def finish(self) -> object:
            raise RuntimeError("no")

    engine = engine_of(Device())
    failed, fine = await asyncio.gather(
        collect(engine.run(Unfinishable([Segment("net", 2)]))),
        collect(engine.run(work(2))),
        return_exceptions=True,
    )
    assert isinstance(failed, StepFailed)
    assert not isinstance(fine, BaseException)


async def test_steps_that_keep_failing_make_the_engine_unhealthy_until_one_succeeds() -> None:
    engine = engine_of(Device())
    for _ in range(3):
        engine.check()
        with pytest.raises(StepFailed):
            await collect(engine.run(work(poison=True)))
    with pytest.raises(EngineStopped):
        engine.check()
    await collect(engine.run(work()))
    engine.check()


async def test_a_step_that_hangs_makes_it_unhealthy_and_keeps_nobody_waiting() -> None:
    gate = threading.Event()
    engine = engine_of(Device(gate=gate.wait), hang=0.05)
    waiting = [asyncio.create_task(collect(engine.run(work()))) for _ in range(3)]
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert all(isinstance(error, EngineStopped) for error in ended)
    with pytest.raises(EngineStopped):
        engine.check()
    with pytest.raises(EngineStopped):
        await collect(engine.run(work()))
    gate.set()
    while engine.load.steps == 0:
        await asyncio.sleep(0.01)
    engine.check()
    assert (await collect(engine.run(work())))[-1] == Finished([2])


class Broken(Watcher):
    def stepped(self, network: str, rows: int, occupancy: float, seconds: float, full_seconds: float) -> None:
        raise RuntimeError("the metrics are gone")

    def ended(self, ending: str, stay: Stay) -> None:
        raise RuntimeError("the metrics are gone")


async def test_a_watcher_that_raises_changes_nothing() -> None:
    engine = engine_of(Device(), Broken())
    assert (await collect(engine.run(work())))[-1] == Finished([2])
    assert (await collect(engine.run(work())))[-1] == Finished([2])


async def test_a_fault_of_the_loop_itself_ends_every_caller() -> None:
    engine = engine_of(Device())
    engine._scheduler.pick = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(EngineStopped):
        await asyncio.wait_for(collect(engine.run(work())), 5)
    with pytest.raises(EngineStopped):
        engine.check()
