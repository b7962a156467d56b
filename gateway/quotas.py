"""What a tenant may ask for: pictures and megapixel-steps a minute, and requests at a time.

Minutes are counted in memory, or in a Redis that all gateways share; requests at a time by each gateway for
itself. A request that is refused or fails before it has got anything is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from limits.aio.storage import MemoryStorage, RedisStorage
from limits.errors import StorageError

from gateway import metrics
from gateway.places import refusal
from gateway.quota import Quota
from services.wire.errors import InvalidInput

logger = logging.getLogger(__name__)
WINDOW_SECONDS = 60
JUMP_SECONDS = 5.0  # of the clock, that are no drift
STORE_SECONDS = 1.0  # that Redis is waited for
EVERYBODY = "*"


@dataclass(frozen=True)
class Left:
    """What is left of one bound, and the seconds until all of it is back."""

    name: str
    most: int
    left: int
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a request takes of its tenant's minute."""

    pictures: int
    megapixel_steps: int


@dataclass
class Spending:
    """A request that is counted. left: what is left. used: it has got something, which is not given back.

    lag: seconds by which its tenant is ahead of its quota, spread evenly over the minute. Its work is due so
    much later, so that who uses a minute at once does not go ahead of others.
    """

    left: list[Left] = field(default_factory=list)
    used: bool = False
    lag: float = 0.0


class Quotas:
    """Keeps the books. quotas: by tenant; "*" is for all that are not named.

    store: ``memory`` or a redis:// URL. shadow: what would be refused is only counted. open_on_failure:
    without an answer of Redis requests go on; else they are refused.
    """

    def __init__(
        self, quotas: Mapping[str, Quota], store: str = "memory", *, shadow: bool, open_on_failure: bool
    ) -> None:
        self._quotas = quotas
        self._shadow = shadow
        self._open_on_failure = open_on_failure
        self._storage: MemoryStorage | RedisStorage = (
            MemoryStorage()
            if store == "memory"
            else RedisStorage(
                f"async+{store}", wrap_exceptions=True, implementation="redispy", key_prefix="unclip-quota"
            )
        )
        self._in_flight: Counter[str] = Counter()
        self._clock_offset = _clock_offset()
        # By tenant and bound: when its quota has made good for what it got.
        self._spread_until: dict[tuple[str, str], float] = {}

    @contextlib.asynccontextmanager
    async def spending(self, tenant: str, cost: Cost) -> AsyncIterator[Spending]:
        """A request of a tenant, which is counted while it runs.

        Raises Overloaded, with the true delay, for one that is beyond the quota, and InvalidInput for one
        that no minute has room for. An error before anything was used gives the minute's share back; a
        caller that leaves does not get it back.
        """
        spending = Spending()
        quota = self._quotas.get(tenant) or self._quotas.get(EVERYBODY)
        if quota is None:
            yield spending
            return
        bounds = {
            "pictures": (quota.pictures, cost.pictures),
            "megapixel_steps": (quota.megapixel_steps, cost.megapixel_steps),
        }
        self._require_room(tenant, quota)
        taken: dict[str, int] = {}
        spread: dict[str, float] = {}  # by bound: seconds that the quota needs for this
        self._in_flight[tenant] += 1
        try:
            for name, (most, amount) in bounds.items():
                if most is not None:
                    spending.left.append(await self._take(tenant, name, most, amount, taken))
            spread = {name: WINDOW_SECONDS * amount / most for name, (most, amount) in bounds.items() if most}
            spending.lag = self._spread(tenant, spread)
            yield spending
        except Exception:
            if not spending.used:
                for name, seconds in spread.items():
                    self._spread_until[tenant, name] = self._spread_until.get((tenant, name), 0.0) - seconds
                for name, amount in taken.items():
                    await self._add(tenant, name, -amount)
            raise
        finally:
            self._in_flight[tenant] -= 1
            if not self._in_flight[tenant]:
                del self._in_flight[tenant]

    async def close(self) -> None:
        """Leave the store."""
        if isinstance(self._storage, RedisStorage):
            bridge: Any = self._storage.bridge
            await bridge.get_connection().aclose()

    def _spread(self, tenant: str, spread: Mapping[str, float]) -> float:
        """The tenant's lag, before work is added to it.

        spread: by bound, the seconds that its quota needs for that work.
        """
        now = time.monotonic()
        self._spread_until = {owner: until for owner, until in self._spread_until.items() if until > now}
        lag = 0.0
        for name, seconds in spread.items():
            until = max(now, self._spread_until.get((tenant, name), now))
            self._spread_until[tenant, name] = until + seconds
            lag = max(lag, until - now)
        return 0.0 if self._shadow else lag

    def _require_room(self, tenant: str, quota: Quota) -> None:
        if quota.in_flight is not None and self._in_flight[tenant] >= quota.in_flight:
            self._refuse("in_flight", f"{quota.in_flight} requests at a time are allowed", 1.0)

    async def _take(self, tenant: str, name: str, most: int, amount: int, taken: dict[str, int]) -> Left:
        spoken = name.replace("_", "-")
        if amount > most and not self._shadow:
            raise InvalidInput(("options", f"asks for {amount} {spoken}; {most} a minute are allowed"))
        used = await self._add(tenant, name, amount)
        if used is None:  # nobody knows
            return Left(name, most, most, 0.0)
        taken[name] = amount
        seconds = await self._seconds(tenant, name)
        if used > most:
            self._refuse(name, f"{most} {spoken} a minute are allowed", seconds)
        return Left(name, most, max(0, most - used), seconds)

    def _refuse(self, name: str, reason: str, seconds: float) -> None:
        metrics.quota_refusals.labels(name, "shadow" if self._shadow else "refused").inc()
        if not self._shadow:
            raise refusal("quota", reason, max(1.0, seconds))

    async def _add(self, tenant: str, name: str, amount: int) -> int | None:
        """What is used of a minute with this amount; None if the store does not answer. Raises Overloaded."""
        try:
            await self._forget_after_a_jump()
            async with asyncio.timeout(STORE_SECONDS):
                return await self._storage.incr(_key(tenant, name), WINDOW_SECONDS, amount)
        except (StorageError, TimeoutError, OSError) as error:
            logger.error("the store of quotas does not answer: %s", type(error).__name__)
            if self._open_on_failure or amount < 0:
                return None
            raise refusal("quota", "the quota cannot be told now", 5.0) from None

    async def _forget_after_a_jump(self) -> None:
        """Minutes in memory end by the machine's clock: were it set back, they would last as much longer."""
        offset = _clock_offset()
        if isinstance(self._storage, MemoryStorage) and offset < self._clock_offset - JUMP_SECONDS:
            logger.warning("the clock was set back; quotas begin anew")
            await self._storage.reset()
        self._clock_offset = offset

    async def _seconds(self, tenant: str, name: str) -> float:
        """Until the minute is over."""
        with contextlib.suppress(StorageError, TimeoutError, OSError):
            async with asyncio.timeout(STORE_SECONDS):
                end = await self._storage.get_expiry(_key(tenant, name))
                return max(0.0, min(WINDOW_SECONDS, end - time.time()))
        return float(WINDOW_SECONDS)


def _clock_offset() -> float:
    """The clock that may be set, over the one that may not."""
    return time.time() - time.monotonic()


def headers_of(left: list[Left]) -> dict[str, str]:
    """What is left, as headers and trailers tell it."""
    found = {}
    for one in left:
        name = one.name.replace("_", "-")
        found[f"x-ratelimit-limit-{name}"] = str(one.most)
        found[f"x-ratelimit-remaining-{name}"] = str(one.left)
        found[f"x-ratelimit-reset-{name}"] = f"{math.ceil(one.seconds)}s"
    return found


def _key(tenant: str, name: str) -> str:
    return f"{name}/{tenant}"
