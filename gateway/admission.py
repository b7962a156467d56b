"""Whether a request may start: free places, bytes in work, and time. A refusal is immediate.

The gateway knows each sampling stage's backlog and speed (its replicas tell with every message), and what it
has itself admitted that has not arrived there yet. From these it forecasts when a request would be done.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping

from gateway import metrics
from gateway.ledger import Demand, Entry, Ledger, Plan, Ticket
from gateway.stages.backlog import Backlog, SamplingStage
from gateway.stages.budget import Budget
from services.wire.errors import DeadlineMissed, Overloaded
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
    """Decides, and keeps the books. ``clock`` gives seconds."""

    def __init__(
        self,
        backlogs: Mapping[SamplingStage, Backlog],
        *,
        max_requests: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledgers = {stage: Ledger(backlog) for stage, backlog in backlogs.items()}
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._clock = clock
        self._numbers = itertools.count()
        self._requests = 0
        self._bytes = 0

    @property
    def at_work(self) -> bool:
        """Whether requests that were admitted are under way."""
        return any(ledger.entries for ledger in self.ledgers.values())

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for calls. Raises Overloaded if all are taken."""
        if self._requests >= self._max_requests:
            raise self._refusal(
                "requests", f"{self._max_requests} requests are being worked on", self._relief()
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextlib.contextmanager
    def holding(self, size: int, own: int = 0) -> Iterator[None]:
        """Bytes that a request keeps in memory while it is worked on.

        Raises Overloaded if they are too many now. own: what the same request holds already. One that needs
        more than there is gets it when nobody else is there.
        """
        others = self._bytes - own
        if others > 0 and self._bytes + size > self._max_bytes:
            raise self._refusal("bytes", "too many bytes are being worked on", self._relief())
        with self.booked(size):
            yield

    @contextlib.contextmanager
    def booked(self, size: int) -> Iterator[None]:
        """Bytes that are in memory whatever is allowed, such as an answer's."""
        self._bytes += size
        metrics.bytes_in_work.set(self._bytes)
        try:
            yield
        finally:
            self._bytes -= size
            metrics.bytes_in_work.set(self._bytes)

    def check(self, demands: tuple[Demand, ...], pictures: int, budget: Budget) -> None:
        """Raises what ``admitted`` would raise for a request that needs at least this."""
        self._entries(demands, pictures, budget)

    @contextlib.contextmanager
    def admitted(self, demands: tuple[Demand, ...], pictures: int, budget: Budget) -> Iterator[Ticket]:
        """A request that can be done in its time.

        Raises Overloaded for one that cannot, before any stage works for it.
        """
        number = next(self._numbers)
        entries = self._entries(demands, pictures, budget)
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
    ) -> dict[SamplingStage, Entry]:
        """The books' entries for a request, if it may start."""
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
            due = now + STRETCH[budget.priority] * own
            if budget.priority == "interactive" and budget.is_deadline:
                due = min(due, now + budget.seconds_left)
            alone += own
            wait = ledger.wait(due) + coming * each / ledger.backlog.replicas
            forecast += max(0.0, wait - forecast) + own
            coming += ledger.foreign_rows / demand.rows
            self._require_patience(ledger, due, pictures * each, now)
            left = dict.fromkeys(range(pictures), each)
            entries[demand.stage] = Entry(due, now + budget.seconds_left, demand.rows, left)
        self._require_time(alone, forecast, budget.seconds_left)
        return entries

    def _require_time(self, alone: float, forecast: float, left: float) -> None:
        if alone > left:
            reason = f"it takes about {alone:.1f} s by itself, and the deadline leaves {left:.1f} s"
            raise DeadlineMissed(reason)
        others = any(ledger.foreign > FOREIGN_SECONDS for ledger in self.ledgers.values())
        late = forecast + OVERHEAD_SECONDS - (SHARE_BESIDE_OTHERS if others else SHARE) * left
        if forecast and late > 0:
            raise self._refusal("deadline", "the deadline cannot be met now", late)

    def _require_rows(self, ledger: Ledger, demand: Demand, pictures: int) -> None:
        if ledger.rows_free() < pictures * demand.rows and ledger.busy:
            reason = f"every place of the {spoken(demand.stage)} is taken"
            raise self._refusal("rows", reason, max(1.0, ledger.wait(math.inf) / 4))

    def _require_patience(self, ledger: Ledger, due: float, seconds: float, now: float) -> None:
        late = ledger.lateness(due, seconds, now)
        if late > 0:
            raise self._refusal("deadline", "others who came before would miss their deadline", late)

    def _plan(self, demand: Demand) -> Plan:
        backlog = self.ledgers[demand.stage].backlog
        plan = []
        for frame in demand.frames:
            base, *rest = (demand.rows * backlog.work(steps) for steps in frame)
            plan.append((base, sum(rest)))
        return plan

    def _relief(self) -> float:
        """Seconds until a request that is under way may be expected to end."""
        waits = [ledger.wait(math.inf) for ledger in self.ledgers.values()]
        return max(1.0, max(waits, default=0.0) / max(1, self._requests))

    @staticmethod
    def _refusal(kind: str, reason: str, retry_after: float) -> Overloaded:
        metrics.door_refusals.labels(kind).inc()
        return Overloaded(reason, retry_after, "gateway")
