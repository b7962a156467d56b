"""Calls that were not let in, counted by where they come from: who guesses is slowed down."""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import TTLCache

SECONDS = 60.0
MOST = 60  # from one address in so many seconds
ADDRESSES = 10_000  # that are remembered; the longest not heard of is forgotten


class Failures:
    """Of each address in the last minute. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: TTLCache[str, list[float]] = TTLCache(ADDRESSES, SECONDS, clock)

    def note(self, address: str) -> float:
        """Count one more. Seconds until the address may try again; 0: it may now."""
        now = self._clock()
        recent = [then for then in self._counts.get(address, ()) if now - then < SECONDS]
        if len(recent) < MOST:
            recent.append(now)
            self._counts[address] = recent
            return 0.0
        return SECONDS - (now - recent[0])
