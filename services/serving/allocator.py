"""How a replica's memory is allocated: what tensors free stays with the process, and is used again."""

from __future__ import annotations

import ctypes

MIB = 2**20
# mallopt's parameters, by their numbers in glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
SETTINGS = {ARENA_MAX: 1, TRIM_THRESHOLD: 256 * MIB, MMAP_THRESHOLD: 32 * MIB}


def keep_freed_memory() -> None:
    """Use freed memory again, up to 256 MiB, instead of giving it back to the system after each tensor.

    Else each step of a network on a CPU gets its tensors from the system anew, page by page: a tenth of its
    time and more. To be called before threads start. Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in SETTINGS.items():
            mallopt(parameter, value)
