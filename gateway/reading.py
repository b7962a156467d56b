"""Receiving messages: a few at a time, since each may be as large as messages get.

One that is slow to arrive gives up its turn to those who wait for one, so that callers who say nothing keep
nobody waiting for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway import metrics
from services.wire.errors import DeadlineMissed, InvalidInput, Overloaded

READ_SECONDS = 30.0  # that a message may take to arrive, and that it may wait for its turn
CONTESTED_SECONDS = 5.0  # that it may take while another waits


class Reading:
    """Turns for receiving a message. places: how many there are."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._limits: list[asyncio.Timeout] = []  # of those who receive and were not hurried yet

    async def first(self, messages: AsyncIterator[bytes]) -> bytes:
        """The first of a call's messages.

        Raises InvalidInput if there is none, DeadlineMissed if it takes too long, and Overloaded if it takes
        long while others wait, or if its turn does not come.
        """
        async with self._turn():
            began = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(READ_SECONDS) as limit:
                    self._limits.append(limit)
                    async for message in messages:
                        return message
            except TimeoutError:
                if asyncio.get_running_loop().time() - began < READ_SECONDS:
                    raise _refusal("the request was slow to arrive while others waited", 1.0) from None
                raise DeadlineMissed(f"the request did not arrive within {READ_SECONDS:g} s") from None
            finally:
                if limit in self._limits:
                    self._limits.remove(limit)
        raise InvalidInput(("request", "is missing"))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._places.locked():
            self._hurry()
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise _refusal("too many requests are being received", READ_SECONDS / 2) from None
        try:
            yield
        finally:
            self._places.release()

    def _hurry(self) -> None:
        """The one who has received for longest has CONTESTED_SECONDS in all."""
        if self._limits:
            limit = self._limits.pop(0)
            began = (limit.when() or 0.0) - READ_SECONDS
            limit.reschedule(max(asyncio.get_running_loop().time(), began + CONTESTED_SECONDS))


def _refusal(reason: str, retry_after: float) -> Overloaded:
    metrics.door_refusals.labels("reading").inc()
    return Overloaded(reason, retry_after, "gateway")
