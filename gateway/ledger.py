"""What the gateway has admitted to each sampling stage, and how far it is."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.events import Drawn, Event, Progressed, Queued
from gateway.stages.backlog import Backlog, SamplingStage, Steps

# Of one picture at one stage, frame by frame: (seconds of the base network, seconds of the rest).
Plan = list[tuple[float, float]]
# Of the time of those admitted before, the share that they may take with a new one ahead of them: other
# gateways admit too, and steps do not always cost the same.
SHARE_OF_OTHERS = 0.9


@dataclass(frozen=True)
class Demand:
    """What each of a request's pictures needs of a sampling stage.

    frames: one after another, the steps of ``rows`` rows in each network.
    """

    stage: SamplingStage
    frames: tuple[tuple[Steps, ...], ...]
    rows: int = 1


class Entry:
    """An admitted request's work at one stage.

    rows: of each of its pictures. seconds: still to do. seconds_arrived: of these, what the stage has, which
    is one frame of a picture at a time, and counts itself. pictures, pictures_arrived: how many these are.
    """

    def __init__(self, due: float, deadline: float, rows: int, pictures: int, each: float) -> None:
        """each: seconds that each picture takes."""
        self.due = due
        self.deadline = deadline
        self.rows = rows
        self._left = dict.fromkeys(range(pictures), each)
        self._arrived: dict[int, float] = {}
        self._count()

    def __contains__(self, picture: int) -> bool:
        """Whether anything of the picture is still to do."""
        return picture in self._left

    def told(self, picture: int, left: float, arrived: float) -> None:
        """So many seconds are left of a picture."""
        self._left[picture] = left
        self._arrived[picture] = arrived
        self._count()

    def ended(self, picture: int) -> None:
        """Nothing is left of a picture."""
        if picture in self._left:
            del self._left[picture]
            self._arrived.pop(picture, None)
            self._count()

    def _count(self) -> None:
        """Sums that every admission asks for, of every request under way."""
        self.seconds = sum(self._left.values())
        self.seconds_arrived = sum(self._arrived.values())
        self.pictures = len(self._left)
        self.pictures_arrived = len(self._arrived)


class Ledger:
    """What this gateway has admitted to one stage, and what the stage has to do beside that."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.entries: dict[int, Entry] = {}

    @property
    def foreign(self) -> float:
        """Seconds of work that came through other gateways."""
        return max(0.0, self.backlog.seconds - sum(entry.seconds_arrived for entry in self.entries.values()))

    @property
    def foreign_rows(self) -> float:
        """Rows that came through other gateways."""
        return max(0.0, self.backlog.rows - sum(e.rows * e.pictures_arrived for e in self.entries.values()))

    def wait(self, due: float) -> float:
        """Seconds until work that is due then would begin, if it were there now."""
        ahead = sum(entry.seconds for entry in self.entries.values() if entry.due <= due)
        return (self.foreign + ahead) / self.backlog.replicas

    @property
    def busy(self) -> bool:
        """Whether anything is there or on its way."""
        return bool(self.entries) or self.backlog.rows > 0

    @property
    def rows(self) -> int:
        """Rows that the stage has, or that are on their way to it."""
        coming = sum(e.rows * (e.pictures - e.pictures_arrived) for e in self.entries.values())
        return self.backlog.rows + coming

    def rows_free(self) -> float:
        """Rows that the stage would still take."""
        return self.backlog.max_rows - self.rows if self.backlog.known else math.inf

    def lateness(self, due: float, seconds: float, now: float) -> float:
        """How late the latest of the others would be if this work went ahead of them.

        Those who are late anyway do not count.
        """
        replicas = self.backlog.replicas
        entries = sorted(self.entries.values(), key=lambda entry: entry.due)
        finishes = list(itertools.accumulate((e.seconds for e in entries), initial=self.foreign))[1:]
        worst = 0.0
        first = bisect_right([entry.due for entry in entries], due)
        for entry, ahead in zip(entries[first:], finishes[first:], strict=True):
            left = entry.deadline - now
            if left != math.inf and ahead / replicas <= left:
                worst = max(worst, (ahead + seconds) / replicas - SHARE_OF_OTHERS * left)
        return worst


class Ticket:
    """An admitted request: it tells the ledgers how far its pictures are."""

    def __init__(self, entries: Mapping[SamplingStage, Entry], plans: Mapping[SamplingStage, Plan]) -> None:
        self._entries = entries
        self._plans = plans
        self._ended: dict[
            tuple[SamplingStage, int], int
        ] = {}  # by stage and picture: frames that it has ended

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
            entry.ended(index)

    def _has_come_to(self, stage: SamplingStage, index: int, event: Queued | Progressed) -> None:
        """Note what is left of the frame that the event is about, and of those after it."""
        entry = self._entries.get(stage)
        if entry is None or index not in entry:
            return
        plan = self._plans[stage]
        ended = self._ended.get((stage, index), 0)
        (base, rest), *later = plan[min(ended, len(plan) - 1) :]
        now = base + rest
        if isinstance(event, Progressed):
            share = 1 - event.step / max(event.steps, 1)
            now = rest * share if event.stage == "upsampler" else base * share + rest
            if share == 0 and (event.stage == "upsampler" or not rest):
                self._ended[stage, index] = ended + 1
        entry.told(index, now + sum(first + second for first, second in later), now)
