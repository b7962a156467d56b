"""The one thread of a stage that has no engine, and how well it is."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from services.wire.errors import Overloaded, ServiceError, StageUnavailable

P = ParamSpec("P")
Result = TypeVar("Result")
FAILURES = 3  # in a row that make it unhealthy
SMOOTHING = 0.2  # weight of the newest call in the usual time of one


class Worker:
    """Runs blocking calls one after another, so that the event loop keeps answering."""

    def __init__(self, hang_seconds: float = 60.0, most_seconds: float = 10.0) -> None:
        """most_seconds: of work that may wait, which is less than callers take for silence."""
        self._hang_seconds = hang_seconds
        self._most_seconds = most_seconds
        self._calls = 0  # that wait or run
        self._usual_seconds = 0.0  # of one
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="work")
        self._failures = 0
        self._started: float | None = None  # when the call under way began

    async def run(self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """The result of ``work``. A ServiceError of its is the caller's own, no fault of the worker.

        Raises Overloaded if too much waits before it.
        """
        ahead = self._calls * self._usual_seconds
        if ahead > self._most_seconds:
            raise Overloaded(f"about {ahead:.0f} s of work is waiting", ahead - self._most_seconds / 2)
        loop = asyncio.get_running_loop()
        timed = functools.partial(self._timed, functools.partial(work, *args, **kwargs))
        self._calls += 1
        try:
            result = await loop.run_in_executor(self._thread, timed)
        except ServiceError:
            raise
        except Exception:
            self._failures += 1
            raise
        finally:
            self._calls -= 1
        self._failures = 0
        return result

    def check(self) -> None:
        """Raises StageUnavailable if a call hangs or calls keep failing: the replica should be replaced."""
        started = self._started
        if started is not None and time.monotonic() - started > self._hang_seconds:
            raise StageUnavailable("the worker hangs")
        if self._failures >= FAILURES:
            raise StageUnavailable(f"the last {self._failures} calls failed")

    def _timed(self, work: Callable[[], Result]) -> Result:
        self._started = started = time.monotonic()
        try:
            return work()
        finally:
            self._started = None
            seconds = time.monotonic() - started
            usual = self._usual_seconds or seconds
            self._usual_seconds = usual + SMOOTHING * (seconds - usual)
