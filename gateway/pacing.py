"""Work of tenants that are ahead of their quota waits at the gateway while the stages have enough to do.

Sent on at once, a burst would take the stages' places, and those before the last stage would work for what
that one comes to much later. What waits holds nothing but its call's place and its message.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.ledger import Demand, Ledger
from gateway.places import refusal
from gateway.stages.backlog import SamplingStage
from gateway.stages.budget import Budget

CALLS = 1  # full ones of each replica, whose rows keep a stage busy
LOOK_SECONDS = 0.05


@dataclass(order=True)
class _Waiting:
    """A request in the line. until: when it goes, however busy the stages are."""

    is_batch: bool
    until: float
    number: int
    called: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Pacing:
    """One model's line: interactive requests before batch ones, and those first that are due first.

    most: how many may wait. ``clock`` gives seconds.
    """

    def __init__(
        self,
        ledgers: Mapping[SamplingStage, Ledger],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledgers = ledgers
        self._most = most
        self._clock = clock
        self._numbers = itertools.count()
        self._line: list[_Waiting] = []
        self._stopped = False

    @property
    def waits(self) -> bool:
        """Whether anybody does."""
        return bool(self._line)

    def holds_back(self, demands: tuple[Demand, ...], budget: Budget) -> bool:
        """Whether a request has to wait: it lags, and the stages are busy, or others wait for them."""
        return budget.lag_left > 0 and not self._stopped and (self.waits or self._busy(demands))

    async def turn(self, demands: tuple[Demand, ...], budget: Budget, slack: float) -> None:
        """Wait until the stages have less to do, or the request no longer lags.

        slack: seconds after which it would be too late for its deadline; it waits no longer. Raises
        Overloaded if too many wait.
        """
        if len(self._line) >= self._most:
            reason = "too many requests wait whose tenants are ahead of their quota"
            raise refusal("quota", reason, max(1.0, budget.lag_left))
        until = self._clock() + min(budget.lag_left, slack)
        own = _Waiting(budget.priority == "batch", until, next(self._numbers))
        insort(self._line, own)
        try:
            while (left := until - self._clock()) > 0 and not self._stopped:
                first = self._line[0] is own
                if first and not self._busy(demands):
                    return
                await _called(own.called, min(left, LOOK_SECONDS) if first else left)
        finally:
            self._line.remove(own)
            if self._line:
                self._line[0].called.set()

    def stop(self) -> None:
        """Let all go, and hold back nobody any more: the gateway stops, and what it has should be done."""
        self._stopped = True
        for waiting in self._line:
            waiting.called.set()

    def _busy(self, demands: tuple[Demand, ...]) -> bool:
        """Whether a stage would not be idle without this work."""
        for demand in demands:
            ledger = self._ledgers[demand.stage]
            full = ledger.backlog.rows_of_a_call(demand.frames[0][0])
            if ledger.rows >= CALLS * full * ledger.backlog.replicas:
                return True
        return False


async def _called(event: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the event is set; it is not any more afterwards."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
