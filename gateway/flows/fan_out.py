"""A request's pictures side by side: their events in the order they happen; the first error ends all.

A slow reader holds up nothing but previews. So what was admitted is soon done, whoever reads it when.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.events import Drawn, Event, Indexed, Observe, Previewed, Step, Timed

MAX_UNREAD = 64  # previews that wait for a slow reader; then its pictures wait too
Drawing = tuple[int, AsyncGenerator[Event, None]]  # a picture's seed, and its events, which end with a Drawn


async def fan_out(
    drawings: Sequence[Drawing], before: Sequence[Event], observe: Observe
) -> AsyncGenerator[Indexed, None]:
    """Draw all pictures. before: what has happened for all of them.

    observe: is told of an event when it happens, which may be long before it is read.

    Closing the generator cancels all pictures, and waits until they have left their stages.
    """
    told: asyncio.Queue[Indexed | Exception | None] = asyncio.Queue()
    unread = asyncio.Semaphore(MAX_UNREAD)
    shared: dict[Step, float] = {}
    for event in before:
        if isinstance(event, Timed):
            shared[event.stage] = shared.get(event.stage, 0.0) + event.seconds
    for event in before:
        if not isinstance(event, Timed):
            yield 0, event

    async def one(index: int, seed: int, drawing: AsyncGenerator[Event, None]) -> None:
        seconds: dict[Step, float] = dict(shared)
        async with aclosing(drawing) as events:
            async for event in events:
                if isinstance(event, Timed):
                    seconds[event.stage] = seconds.get(event.stage, 0.0) + event.seconds
                    continue
                observe(index, event)
                if isinstance(event, Drawn):
                    event = replace(event, seed=seed, seconds=seconds)
                elif isinstance(event, Previewed):
                    await unread.acquire()
                told.put_nowait((index, event))

    async def all_of_them() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for index, (seed, drawing) in enumerate(drawings):
                    group.create_task(one(index, seed, drawing))
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
