"""Whether a request may start: a free place at every stage, and time. A refusal is immediate.

The gateway knows each sampling stage's backlog and speed (its replicas tell with every message), and what it
has itself admitted that has not arrived there yet. From these it forecasts when a request would be done.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping

from gateway.ledger import Demand, Entry, Ledger, Plan, Ticket
from gateway.places import refusal
from gateway.stages.backlog import Backlog, SamplingStage
from gateway.stages.budget import Budget
from services.wire.errors import DeadlineMissed
from services.wire.stages import spoken

# Of a request's time, the share that its forecast may take: steps do not always cost the same. It is smaller
# while other gateways are at work, of whose newest requests this one has not heard yet.
SHARE = 0.75
SHARE_BESIDE_OTHERS = 0.7
FOREIGN_SECONDS = 0.5  # of work at a stage that is not ours: there are other gateways
OVERHEAD_SECONDS = 0.15  # of hops, encoders and the picture's file
# How many times its own duration a request is let wait before it goes ahead of later ones, as in the engine.
STRETCH = {"interactive": 10.0, "batch": 100.0}


class Admission:
    """Decides for one model, and keeps its books. ``clock`` gives seconds."""

    def __init__(
        self,
        backlogs: Mapping[SamplingStage, Backlog],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledgers = {stage: Ledger(backlog) for stage, backlog in backlogs.items()}
        self._clock = clock
        self._numbers = itertools.count()

    @property
    def at_work(self) -> bool:
        """Whether requests that were admitted are under way."""
        return any(ledger.entries for ledger in self.ledgers.values())

    @property
    def wait(self) -> float:
        """Seconds until all that was admitted is done."""
        return max(ledger.wait(math.inf) for ledger in self.ledgers.values())

    def check(self, demands: tuple[Demand, ...], pictures: int, budget: Budget) -> float:
        """Raises what ``admitted`` would raise for a request that needs at least this.

        Returns the seconds that it could start later.
        """
        return self._entries(demands, pictures, budget)[1]

    @contextlib.contextmanager
    def admitted(self, demands: tuple[Demand, ...], pictures: int, budget: Budget) -> Iterator[Ticket]:
        """A request that can be done in its time.

        Raises Overloaded for one that cannot, before any stage works for it.
        """
        number = next(self._numbers)
        entries, _ = self._entries(demands, pictures, budget)
        plans = {demand.stage: self._plan(demand) for demand in demands}
        for stage, entry in entries.items():
            self.ledgers[stage].entries[number] = entry
        try:
            yield Ticket(entries, plans)
        finally:
            for stage in entries:
                del self.ledgers[stage].entries[number]

    def _entries(
        self, demands: tuple[Demand, ...], pictures: int, budget: Budget
    ) -> tuple[dict[SamplingStage, Entry], float]:
        """The books' entries for a request, if it may start, and the seconds that it could start later."""
        now = self._clock()
        alone = 0.0  # seconds it takes by itself
        forecast = 0.0  # seconds it takes beside the others, whose work goes on while it is in another stage
        coming = 0.0  # other gateways' pictures that are still in an earlier stage, if they are like these
        entries: dict[SamplingStage, Entry] = {}
        for demand in demands:
            ledger = self.ledgers[demand.stage]
            self._require_rows(ledger, demand, pictures)
            each = sum(first + second for first, second in self._plan(demand))
            one = sum(ledger.backlog.alone(steps) for frame in demand.frames for steps in frame)
            own = max(one, pictures * each / ledger.backlog.replicas)
            due = now + budget.lag_left + STRETCH[budget.priority] * own
            if budget.priority == "interactive" and budget.is_deadline:
                due = min(due, now + budget.seconds_left)
            alone += own
            wait = ledger.wait(due) + coming * each / ledger.backlog.replicas
            forecast += max(0.0, wait - forecast) + own
            coming += ledger.foreign_rows / demand.rows
            self._require_patience(ledger, due, pictures * each, now)
            entries[demand.stage] = Entry(due, now + budget.seconds_left, demand.rows, pictures, each)
        return entries, self._slack(alone, forecast, budget.seconds_left)

    def _slack(self, alone: float, forecast: float, left: float) -> float:
        """Seconds that a request has to spare. Raises DeadlineMissed, or Overloaded, if they are too few."""
        if alone > left:
            reason = f"it takes about {alone:.1f} s by itself, and the deadline leaves {left:.1f} s"
            raise DeadlineMissed(reason)
        others = any(ledger.foreign > FOREIGN_SECONDS for ledger in self.ledgers.values())
        late = forecast + OVERHEAD_SECONDS - (SHARE_BESIDE_OTHERS if others else SHARE) * left
        if forecast and late > 0:
            raise refusal("deadline", "the deadline cannot be met now", late)
        return max(0.0, -late)

    def _require_rows(self, ledger: Ledger, demand: Demand, pictures: int) -> None:
        if ledger.rows_free() < pictures * demand.rows and ledger.busy:
            reason = f"every place of the {spoken(demand.stage)} is taken"
            raise refusal("rows", reason, max(1.0, ledger.wait(math.inf) / 4))

    def _require_patience(self, ledger: Ledger, due: float, seconds: float, now: float) -> None:
        late = ledger.lateness(due, seconds, now)
        if late > 0:
            raise refusal("deadline", "others who came before would miss their deadline", late)

    def _plan(self, demand: Demand) -> Plan:
        backlog = self.ledgers[demand.stage].backlog
        plan = []
        for frame in demand.frames:
            base, *rest = (demand.rows * backlog.work(steps) for steps in frame)
            plan.append((base, sum(rest)))
        return plan
