"""Idempotency keys: a request that is sent again joins the first one, or gets the answer that it got.

Clients send a request again when an answer does not come in time. Without a key the work would be done twice.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.settings import Settings
from gateway.shared_answers import HEADER, SharedAnswers
from services.wire.errors import InvalidInput

MAX_KEY = 255
KEEP_SECONDS = 600.0
# How long work goes on whose callers have all left: one that gave up waiting may be about to ask again.
GRACE_SECONDS = 10.0
MOST_BYTES = 32 * 2**20  # of answers that are kept


Key = tuple[str, str]  # a tenant, and its key


@dataclass(eq=False)
class Entry:
    """The work for one key. waiting: how many callers wait for it. size: of its answer.

    leaving: drops it, since nobody waits for it any more.
    """

    fingerprint: bytes
    work: asyncio.Task[bytes]
    began: float
    waiting: int = 0
    size: int = 0
    leaving: asyncio.TimerHandle | None = None


class Replays:
    """Answers by key. Failures are not kept: the next request with the key tries again.

    shared: where other gateways' answers are found too.
    """

    def __init__(
        self,
        shared: SharedAnswers | None = None,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._most_bytes = most_bytes
        self._clock = clock
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    async def answer(
        self, key: str, tenant: str, fingerprint: bytes, work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """The answer of ``work``, or of an earlier one with this key of this tenant's.

        The work is cancelled when nobody has waited for it for a while. Raises InvalidInput if the key was
        used for another request.
        """
        if len(key) > MAX_KEY or not key.isprintable():
            raise InvalidInput((HEADER, f"must be printable and at most {MAX_KEY} characters"))
        self._forget()
        owned = (tenant, key)
        entry = self._entries.get(owned)
        if entry is None:
            done = self._done(tenant, key, fingerprint, work)
            entry = Entry(fingerprint, asyncio.ensure_future(done), self._clock())
            self._entries[owned] = entry
            entry.work.add_done_callback(functools.partial(self._ended, owned, entry))
        elif entry.fingerprint != fingerprint:
            raise InvalidInput((HEADER, "was used for another request"))
        entry.waiting += 1
        if entry.leaving is not None:
            entry.leaving.cancel()
        try:
            return await asyncio.shield(entry.work)
        finally:
            entry.waiting -= 1
            if not entry.waiting and not entry.work.done():
                loop = asyncio.get_running_loop()
                entry.leaving = loop.call_later(GRACE_SECONDS, self._drop, owned, entry)

    def _ended(self, key: Key, entry: Entry, work: asyncio.Task[bytes]) -> None:
        """Its answer is there, or it has failed, whoever still waits."""
        if work.cancelled() or work.exception() is not None:
            self._drop(key, entry)
        else:
            entry.size = len(work.result())

    def _drop(self, key: Key, entry: Entry) -> None:
        entry.work.cancel()
        if self._entries.get(key) is entry:
            del self._entries[key]

    def _forget(self) -> None:
        """Drop old answers, and the oldest ones that are too much."""
        oldest = self._clock() - KEEP_SECONDS
        held = sum(entry.size for entry in self._entries.values())
        for key, entry in list(self._entries.items()):
            if entry.work.done() and (entry.began < oldest or held > self._most_bytes):
                held -= entry.size
                del self._entries[key]

    async def _done(
        self, tenant: str, key: str, fingerprint: bytes, work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        if self._shared is None:
            return await work()
        return await self._shared.once(tenant, key, fingerprint, work)

    async def close(self) -> None:
        """Leave the store."""
        if self._shared is not None:
            await self._shared.close()


def replays_of(settings: Settings) -> Replays:
    """Where answers are kept, as the settings have it."""
    if settings.shared_store == "memory":
        return Replays()
    open_on_failure = settings.shared_store_open_on_failure
    return Replays(SharedAnswers(settings.shared_store, KEEP_SECONDS, open_on_failure=open_on_failure))
