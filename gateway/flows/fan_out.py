"""A request's pictures side by side: their events in the order they happen; the first error ends all.

A slow reader holds up nothing but previews. So what was admitted is soon done, whoever reads it when.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway import metrics
from gateway.events import Drawn, Event, Indexed, Observe, Previewed, Step, Timed
from gateway.flows.flow import SEEDS, Options

MAX_UNREAD = 64  # previews that wait for a slow reader; then its pictures wait too
Draw = Callable[[int], AsyncGenerator[Event, None]]  # of the picture with this seed; it ends with a Drawn


async def fan_out(
    options: Options, draw: Draw, before: Sequence[Event], observe: Observe
) -> AsyncGenerator[Indexed, None]:
    """Draw picture i from ``seed + i``. before: what has happened for all of them.

    observe: is told of an event when it happens, which may be long before it is read.

    Closing the generator cancels all pictures, and waits until they have left their stages.
    """
    told: asyncio.Queue[Indexed | Exception | None] = asyncio.Queue()
    unread = asyncio.Semaphore(MAX_UNREAD)
    shared = {event.stage: event.seconds for event in before if isinstance(event, Timed)}
    for event in before:
        if not isinstance(event, Timed):
            yield 0, event

    async def one(index: int) -> None:
        seed = (options.seed + index) % SEEDS
        seconds: dict[Step, float] = dict(shared)
        async with aclosing(draw(seed)) as events:
            async for event in events:
                if isinstance(event, Timed):
                    seconds[event.stage] = seconds.get(event.stage, 0.0) + event.seconds
                    continue
                observe(index, event)
                if isinstance(event, Drawn):
                    _measure(seconds)
                    event = replace(event, seed=seed, seconds=seconds)
                elif isinstance(event, Previewed):
                    await unread.acquire()
                told.put_nowait((index, event))

    async def all_of_them() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(options.n):
                    group.create_task(one(index))
        except ExceptionGroup as failures:
            told.put_nowait(failures.exceptions[0])
        else:
            told.put_nowait(None)

    work = asyncio.create_task(all_of_them())
    try:
        while (item := await told.get()) is not None:
            if isinstance(item, Exception):
                raise item
            if isinstance(item[1], Previewed):
                unread.release()
            yield item
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def _measure(seconds: Mapping[Step, float]) -> None:
    for step, spent in seconds.items():
        metrics.stage_seconds.labels(step).observe(spent)
