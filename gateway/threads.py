"""Threads for work on pictures, which takes too long for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
_threads = ThreadPoolExecutor(4, thread_name_prefix="pictures")


async def in_thread(work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """The result of ``work``.

    A caller that is cancelled leaves when its work has ended, or will not begin: until then its memory is in
    use.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    job = _threads.submit(work, *args, **kwargs)
    job.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
    try:
        await ended.wait()
    except asyncio.CancelledError:
        if not job.cancel():
            await ended.wait()
        raise
    return job.result()
