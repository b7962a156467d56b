"""Answers by idempotency key in a Redis that all gateways share.

A request that is sent again may come to another gateway, which waits for the first one's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from services.wire.errors import InvalidInput, Overloaded

logger = logging.getLogger(__name__)
HEADER = "idempotency-key"
STORE_SECONDS = 1.0  # that Redis is waited for
# After so many seconds the work of a gateway that died is free to be done by another.
CLAIM_SECONDS = 30.0
LOOK_SECONDS = 0.2  # between looks whether another gateway is done
DIGEST = hashlib.sha256().digest_size
FAILURES = (RedisError, OSError, TimeoutError)
DELETE_IF = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"


class SharedAnswers:
    """Each name's value is the digest of its request and, once there is one, the answer.

    open_on_failure: without Redis work is done as if nobody had asked before; else it is refused.
    """

    def __init__(self, url: str, keep_seconds: float, *, open_on_failure: bool) -> None:
        self._redis = Redis.from_url(url, socket_timeout=STORE_SECONDS, socket_connect_timeout=STORE_SECONDS)
        self._keep = int(keep_seconds)
        self._open = open_on_failure

    async def once(
        self, tenant: str, key: str, fingerprint: bytes, work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """The answer that a gateway has for this key, or that of ``work``, which others then get.

        fingerprint: DIGEST bytes that are the same for the same request. Raises InvalidInput for another
        one's key, Overloaded without Redis, and whatever ``work`` raises: that is not kept.
        """
        name = name_of(tenant, key)
        answer = None
        lock = self._redis.lock(f"{name}/work", timeout=CLAIM_SECONDS, sleep=LOOK_SECONDS)
        try:
            answer = await self._begin(name, lock, fingerprint)
            shared = True
        except FAILURES as error:
            self._tell(error)
            await self._release(lock)
            shared = False
        except BaseException:
            await self._release(lock)
            raise
        if answer is not None:
            return answer
        if not shared and not self._open:
            raise Overloaded("whether this was asked before cannot be told now", 5.0, "gateway")
        if not shared:
            return await work()
        async with self._claimed(lock):
            return await self._worked(name, fingerprint, work)

    async def close(self) -> None:
        """Leave Redis."""
        await self._redis.aclose()

    async def _worked(self, name: str, fingerprint: bytes, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """The answer of ``work``, which other gateways are told; if it fails, the key is free again."""
        try:
            answer = await work()
        except BaseException:
            with self._tolerating():  # unless another gateway, which took the claim over, has answered
                await asyncio.shield(self._redis.eval(DELETE_IF, 1, name, fingerprint))
            raise
        with self._tolerating():
            await self._redis.set(name, fingerprint + answer, ex=self._keep)
        return answer

    async def _begin(self, name: str, lock: Lock, fingerprint: bytes) -> bytes | None:
        """The answer that is there; None: the work is this gateway's, which has the lock."""
        while True:
            await self._redis.set(name, fingerprint, ex=self._keep, nx=True)
            held = await self._held(name) or fingerprint
            if held[:DIGEST] != fingerprint:
                raise InvalidInput((HEADER, "was used for another request"))
            if len(held) > DIGEST:
                return held[DIGEST:]
            # The token is ours, so that the lock can be given back though the store's word of it is lost.
            lock.local.token = secrets.token_hex(16).encode()
            if await lock.acquire(blocking=False, token=lock.local.token):
                held = await self._held(name)  # another gateway may have become ready since the look
                if held in (b"", fingerprint):
                    return None
                await lock.release()
                continue
            lock.local.token = None
            await asyncio.sleep(LOOK_SECONDS)

    async def _release(self, lock: Lock) -> None:
        """Give the lock back, if it may have been taken."""
        if lock.local.token is not None:
            with self._tolerating():
                await asyncio.shield(lock.release())

    async def _held(self, name: str) -> bytes:
        held = await self._redis.get(name)
        return held if isinstance(held, bytes) else b""

    @contextlib.asynccontextmanager
    async def _claimed(self, lock: Lock) -> AsyncIterator[None]:
        """Keep the lock while the work goes on, and give it back."""
        keeping = asyncio.create_task(self._keep_claim(lock))
        try:
            yield
        finally:
            keeping.cancel()
            with self._tolerating():
                await asyncio.shield(lock.release())

    async def _keep_claim(self, lock: Lock) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 3)
            try:
                await lock.reacquire()
            except LockError:
                logger.warning("a claim on an answer was lost; another gateway may do the same work")
                return
            except FAILURES as error:
                self._tell(error)

    @contextlib.contextmanager
    def _tolerating(self) -> Iterator[None]:
        """Work that is done is not lost because Redis has gone."""
        try:
            yield
        except LockError:
            pass  # it was not ours any more
        except FAILURES as error:
            self._tell(error)

    @staticmethod
    def _tell(error: Exception) -> None:
        logger.error("the store of answers does not answer: %s", type(error).__name__)


def name_of(tenant: str, key: str) -> str:
    """What Redis calls a tenant's key."""
    return "unclip-answer/" + hashlib.sha256(f"{tenant}\n{key}".encode()).hexdigest()
