"""The thread of the encoders: what is wrong with it is noticed."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from services.serving.worker import Worker
from services.wire.errors import InvalidInput, Overloaded, StageUnavailable


def fail(error: Exception) -> None:
    raise error


async def test_a_worker_that_keeps_failing_is_unhealthy_until_it_succeeds() -> None:
    worker = Worker()
    for _ in range(3):
        worker.check()
        with pytest.raises(RuntimeError):
            await worker.run(fail, RuntimeError("the device is lost"))
    with pytest.raises(StageUnavailable):
        worker.check()
    assert await worker.run(max, 1, 2) == 2
    worker.check()


async def test_what_a_caller_did_wrong_is_no_fault_of_the_worker() -> None:
    worker = Worker()
    for _ in range(4):
        with pytest.raises(InvalidInput):
            await worker.run(fail, InvalidInput(("texts", "are odd")))
    worker.check()


async def test_a_worker_that_hangs_is_unhealthy() -> None:
    gate = threading.Event()
    worker = Worker(hang_seconds=0.01)
    running = asyncio.create_task(worker.run(gate.wait))
    await asyncio.sleep(0.1)
    with pytest.raises(StageUnavailable):
        worker.check()
    gate.set()
    await running
    worker.check()


async def test_a_worker_with_much_to_do_refuses_and_says_for_how_long() -> None:
    worker = Worker(most_seconds=0.1)
    await worker.run(time.sleep, 0.04)
    running = [asyncio.create_task(worker.run(time.sleep, 0.04)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refusal:
        await worker.run(time.sleep, 0.04)
    assert 0.05 < refusal.value.retry_after < 1
    await asyncio.gather(*running)
    await worker.run(time.sleep, 0)
    worker.check()
