"""Which threads of a replica compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch


def compute_elsewhere(threads: int) -> Callable[[], None]:
    """Give torch one thread here, and return what gives it so many in the thread that calls it.

    Each thread that computes has OpenMP threads of its own beside it, which wait awake for the next operation
    only while no more of them are there than processors. So where networks are loaded there are none.
    """
    torch.set_num_threads(1)
    return partial(torch.set_num_threads, threads)
