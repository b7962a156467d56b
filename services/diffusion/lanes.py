"""Network calls side by side, each on cores of its own.

The threads of one call wait for one another after every operation, some hundred times a call, and longer
where another process has their core. Calls that are computed side by side wait once. On two cores a guided
step of the shipped decoder takes two thirds of the time (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Barrier

import torch
from torch import Tensor


class Lanes:
    """Threads that compute a call each, and share out those that torch has, as far as they can be divided."""

    def __init__(self, count: int = 1) -> None:
        """count: at most as many as torch has threads. One lane is the caller's own thread."""
        threads = torch.get_num_threads()
        self.count = min(count, threads)
        if self.count == 1:
            return
        started = Barrier(self.count)

        def begin() -> None:
            torch.get_num_threads()  # else torch would set the process's number here once more, later
            torch.set_num_threads(threads // self.count)
            started.wait()

        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="lane")
        for beginning in [self._pool.submit(begin) for _ in range(self.count)]:
            beginning.result()
        torch.set_num_threads(threads)  # threads that begin later take over what was set last

    def run(self, calls: Sequence[Callable[[], Tensor]], *, wide: bool) -> list[Tensor]:
        """The outputs of calls. wide: one after another, each with all threads.

        What a call raises is raised, but not before all of them have ended.
        """
        if wide:
            return [call() for call in calls]
        made = [self._pool.submit(torch.inference_mode()(call)) for call in calls]
        wait(made)
        return [each.result() for each in made]


@contextmanager
def one_thread() -> Iterator[None]:
    """What torch computes in this thread it computes alone, meanwhile."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
