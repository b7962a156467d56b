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
from dataclasses import dataclass, field
from typing import Literal

from gateway import metrics
from gateway.events import Drawn, Event, Progressed, Queued
from gateway.stages.backlog import Backlog, Steps
from gateway.stages.budget import Budget
from services.wire.errors import DeadlineMissed, Overloaded
from services.wire.stages import spoken

SamplingStage = Literal["prior", "decoder"]
# Of one picture at one stage, frame by frame: (seconds of the base network, seconds of the rest).
Plan = list[tuple[float, float]]
# Of a request's time, the share that its forecast may take, and of the time of those admitted before, the
# share that they may take with it: other gateways admit too, and steps do not always cost the same.
SHARE = 0.75
SHARE_OF_OTHERS = 0.9
OVERHEAD_SECONDS = 0.15  # of hops, encoders and the picture's file
# How many times its own duration a request is let wait before it goes ahead of later ones, as in the engine.
STRETCH = {"interactive": 10.0, "batch": 100.0}


@dataclass(frozen=True)
class Demand:
    """What each of a request's ``pictures`` needs of a sampling stage.

    ``rows`` rows with these steps, so many times.
    """

    stage: SamplingStage
    steps: tuple[Steps, ...]
    rows: int = 1
    times: int = 1


@dataclass(eq=False)
class Entry:
    """An admitted request's work at one stage.

    Left: seconds still to do for each picture; arrived: the stage has it.
    """

    due: float
    deadline: float
    left: dict[int, float]
    arrived: set[int] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """Still to do."""
        return sum(self.left.values())

    @property
    def seconds_arrived(self) -> float:
        """Of it, what the stage knows of and counts itself."""
        return sum(self.left[i] for i in self.arrived)


class Ledger:
    """What this gateway has admitted to one stage, and what the stage has to do beside that."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.entries: dict[int, Entry] = {}

    @property
    def foreign(self) -> float:
        """Seconds of work that came through other gateways."""
        return max(0.0, self.backlog.seconds - sum(entry.seconds_arrived for entry in self.entries.values()))

    def wait(self, due: float) -> float:
        """Seconds until work that is due then would begin, if it were there now."""
        ahead = sum(entry.seconds for entry in self.entries.values() if entry.due <= due)
        return (self.foreign + ahead) / self.backlog.replicas

    @property
    def busy(self) -> bool:
        """Whether anything is there or on its way."""
        return bool(self.entries) or self.backlog.rows > 0

    def rows_free(self) -> float:
        """Rows that the stage would still take."""
        if not self.backlog.known:
            return math.inf
        coming = sum(len(entry.left) - len(entry.arrived) for entry in self.entries.values())
        return self.backlog.max_rows - self.backlog.rows - coming

    def lateness(self, due: float, seconds: float, now: float) -> float:
        """How late the latest of the others would be if this work went ahead of them.

        Those who are late anyway do not count.
        """
        worst = 0.0
        for entry in self.entries.values():
            if entry.due <= due or entry.deadline == math.inf:
                continue
            finish = now + self.wait(entry.due)
            if finish <= entry.deadline:
                later = finish + seconds / self.backlog.replicas
                worst = max(worst, later - now - SHARE_OF_OTHERS * (entry.deadline - now))
        return worst


class Ticket:
    """An admitted request: it tells the ledgers how far its pictures are."""

    def __init__(self, entries: Mapping[SamplingStage, Entry], plans: Mapping[SamplingStage, Plan]) -> None:
        self._entries = entries
        self._plans = plans
        self._ended: dict[int, int] = {}  # by picture: frames that the decoder has ended

    def observe(self, index: int, event: Event) -> None:
        """Something has happened to picture ``index``."""
        if isinstance(event, Drawn):
            self._has_done("prior", index)
            self._has_done("decoder", index)
        elif isinstance(event, Queued | Progressed) and event.stage == "prior":
            self._has_come_to("prior", index, event)
        elif isinstance(event, Queued | Progressed):
            self._has_done("prior", index)
            self._has_come_to("decoder", index, event)

    def _has_done(self, stage: SamplingStage, index: int) -> None:
        if (entry := self._entries.get(stage)) is not None:
            entry.left.pop(index, None)
            entry.arrived.discard(index)

    def _has_come_to(self, stage: SamplingStage, index: int, event: Queued | Progressed) -> None:
        entry = self._entries.get(stage)
        if entry is None or index not in entry.left:
            return
        entry.arrived.add(index)
        if isinstance(event, Progressed):
            entry.left[index] = self._left(self._plans[stage], index, event)

    def _left(self, plan: Plan, index: int, event: Progressed) -> float:
        """Seconds still to do: of the frame that the event is about, and of those after it."""
        ended = self._ended.get(index, 0)
        (base, rest), *later = plan[min(ended, len(plan) - 1) :]
        share = 1 - event.step / max(event.steps, 1)
        now = rest * share if event.stage == "upsampler" else base * share + rest
        if share == 0 and (event.stage == "upsampler" or not rest):
            self._ended[index] = ended + 1
        return now + sum(first + second for first, second in later)


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
        """Bytes that a request keeps in memory while it is worked on. Raises Overloaded if they are too many
        now.

        own: what the same request holds already. One that needs more than there is gets it when nobody else
        is there.
        """
        others = self._bytes - own
        if others > 0 and self._bytes + size > self._max_bytes:
            raise self._refusal("bytes", "too many bytes are being worked on", self._relief())
        self._bytes += size
        metrics.bytes_in_work.set(self._bytes)
        try:
            yield
        finally:
            self._bytes -= size
            metrics.bytes_in_work.set(self._bytes)

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
        entries: dict[SamplingStage, Entry] = {}
        for demand in demands:
            ledger = self.ledgers[demand.stage]
            self._require_rows(ledger, demand, pictures)
            each = sum(first + second for first, second in self._plan(demand))
            one = demand.times * sum(ledger.backlog.alone(steps) for steps in demand.steps)
            own = max(one, pictures * each / ledger.backlog.replicas)
            due = now + STRETCH[budget.priority] * own
            if budget.priority == "interactive" and budget.is_deadline:
                due = min(due, now + budget.seconds_left)
            alone += own
            forecast += max(0.0, ledger.wait(due) - forecast) + own
            self._require_patience(ledger, due, pictures * each, now)
            left = dict.fromkeys(range(pictures), each)
            entries[demand.stage] = Entry(due, now + budget.seconds_left, left)
        self._require_time(alone, forecast, budget.seconds_left)
        return entries

    def _require_time(self, alone: float, forecast: float, left: float) -> None:
        if alone > left:
            reason = f"it takes about {alone:.1f} s by itself, and the deadline leaves {left:.1f} s"
            raise DeadlineMissed(reason)
        late = (forecast + OVERHEAD_SECONDS) / SHARE - left
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
        base, *rest = (demand.rows * backlog.work(steps) for steps in demand.steps)
        return [(base, sum(rest))] * demand.times

    def _relief(self) -> float:
        """Seconds until a request that is under way may be expected to end."""
        waits = [ledger.wait(math.inf) for ledger in self.ledgers.values()]
        return max(1.0, max(waits, default=0.0) / max(1, self._requests))

    @staticmethod
    def _refusal(kind: str, reason: str, retry_after: float) -> Overloaded:
        metrics.door_refusals.labels(kind).inc()
        return Overloaded(reason, retry_after, "gateway")
