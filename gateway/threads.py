"""Threads for work on pictures, which takes too long for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

Args = TypeVarTuple("Args")
Result = TypeVar("Result")
PICTURES = ThreadPoolExecutor(4, thread_name_prefix="pictures")
HEADERS = ThreadPoolExecutor(2, thread_name_prefix="headers")  # so that refusals do not wait for pictures


async def in_thread(
    work: Callable[[Unpack[Args]], Result], *args: *Args, pool: ThreadPoolExecutor = PICTURES
) -> Result:
    """The result of ``work``.

    A caller that is cancelled leaves when its work has ended, or will not begin: until then its memory is in
    use.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    job = pool.submit(work, *args)
    job.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
    try:
        await ended.wait()
    except asyncio.CancelledError:
        if not job.cancel():
            await ended.wait()
        raise
    return job.result()
