"""Work of tenants that are ahead of their quota waits at the gateway while the stages have enough to do.

Sent on at once, a burst would take the stages' places, and those before the last stage would work for what
that one comes to much later.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from bisect import insort
from collections.abc import AsyncGenerator, Callable, Mapping

from gateway.ledger import Demand, Ledger, Ticket
from gateway.stages.backlog import SamplingStage
from gateway.stages.budget import Budget

CALLS = 2  # full ones of each replica, whose rows keep a stage busy: one under way, and the next
LOOK_SECONDS = 0.05


class Pacing:
    """Lets those go that are due first. ``clock`` gives seconds."""

    def __init__(
        self, ledgers: Mapping[SamplingStage, Ledger], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledgers = ledgers
        self._clock = clock
        self._numbers = itertools.count()
        self._line: list[tuple[float, int]] = []  # when each no longer lags, and its number

    async def turn(
        self, demands: tuple[Demand, ...], ticket: Ticket, budget: Budget
    ) -> AsyncGenerator[int, None]:
        """Wait until an admitted request may go on to the stages: at once, unless it lags and they are busy.

        It goes when it no longer lags, or could not wait longer and be in time. Yields how many are before
        it, first and whenever that changes.
        """
        until = self._clock() + min(budget.lag_left, ticket.slack)
        own = (until, next(self._numbers))
        insort(self._line, own)
        told = None
        try:
            with ticket.waiting():
                while (left := until - self._clock()) > 0:
                    ahead = self._line.index(own)
                    if not ahead and not self._busy(demands):
                        return
                    if ahead != told:
                        told = ahead
                        yield ahead
                    await asyncio.sleep(min(LOOK_SECONDS * (1 + ahead), left))
        finally:
            self._line.remove(own)

    def _busy(self, demands: tuple[Demand, ...]) -> bool:
        """Whether a stage would not be idle without this work."""
        for demand in demands:
            ledger = self._ledgers[demand.stage]
            full = ledger.backlog.rows_of_a_call(demand.frames[0][0])
            if ledger.rows >= CALLS * full * ledger.backlog.replicas:
                return True
        return False
