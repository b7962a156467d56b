"""Admission on a clock of the test's own: places, bytes, time, and what it learns on the way."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway import admission
from gateway.admission import Admission
from gateway.events import Drawn, Progressed, Queued
from gateway.ledger import Demand
from gateway.places import Places
from gateway.stages.backlog import Backlog, Steps
from gateway.stages.budget import Budget
from services.engine import scheduler
from services.wire.errors import DeadlineMissed, Overloaded
from unclip.internal.v1 import sampling_pb2

PRIOR = Demand("prior", ((Steps(0, 4, 2),),), rows=2)
DECODER = Demand("decoder", ((Steps(64, 8, 2), Steps(256, 2)),))  # 8 x 0.1 + 2 x 0.1 = 1 s


class Timeless(Budget):
    """A budget on whose clock no time passes."""

    @property
    def seconds_left(self) -> float:
        return self.seconds


@dataclass
class Desk:
    """An admission, and the stages' words that it hears."""

    now: float = 0.0
    backlogs: dict[str, Backlog] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backlogs = {stage: Backlog(lambda: self.now) for stage in ("prior", "decoder")}
        self.admission = Admission(
            self.backlogs,  # type: ignore[arg-type]
            clock=lambda: self.now,
        )
        self.hears("prior", seconds=0.01)
        self.hears("decoder")
        self.stack = contextlib.ExitStack()

    def hears(
        self, stage: str, backlog: float = 0.0, seconds: float = 0.1, replica: str = "one", rows: int = 0
    ) -> None:
        costs = [
            sampling_pb2.NetworkCost(size=size, seconds=seconds, evaluations=2 if size < 256 else 1)
            for size in (0, 64, 256)
        ]
        self.backlogs[stage].told(
            sampling_pb2.EngineLoad(
                replica=replica, backlog_seconds=backlog, rows_running=rows, max_rows=96, costs=costs
            )
        )

    def admit(
        self, within: float = 1e6, pictures: int = 1, demands: Any = (PRIOR, DECODER), **given: Any
    ) -> Any:
        budget = Timeless(within, "id", **given)
        return self.stack.enter_context(self.admission.admitted(demands, pictures, budget))

    def admitted_in_a_row(self, within: float) -> int:
        count = 0
        with contextlib.suppress(Overloaded):
            while count < 1000:
                self.admit(within)
                count += 1
        return count


def test_as_many_are_admitted_as_can_be_in_time() -> None:
    assert 4 <= Desk().admitted_in_a_row(8.0) <= 7  # a second each, and a margin


def test_who_lags_is_due_later_and_waits_for_more() -> None:
    desk = Desk()
    for _ in range(2):
        desk.admit()
    ledger = desk.admission.ledgers["decoder"]
    budget = Timeless(1e6, "id")
    budget.lags(5.0)
    assert budget.task(1, 8, 2.0).lag_seconds == pytest.approx(5.0, abs=0.1)
    desk.stack.enter_context(desk.admission.admitted((DECODER,), 1, budget))
    *others, own = sorted(ledger.entries.values(), key=lambda entry: entry.due)
    assert len(others) == 2
    assert own.due == pytest.approx(others[-1].due + 5.0, abs=0.2)


def test_work_of_other_gateways_counts() -> None:
    desk = Desk()
    desk.hears("decoder", backlog=4)
    assert 1 <= desk.admitted_in_a_row(8.0) <= 3


def test_what_other_gateways_have_in_the_prior_will_come_to_the_decoder() -> None:
    """Six rows of two candidates each: three pictures, of a second each."""
    alone = Desk()
    beside = Desk()
    beside.hears("prior", seconds=0.01, rows=6)
    assert alone.admitted_in_a_row(8.0) >= beside.admitted_in_a_row(8.0) + 3


def test_two_replicas_carry_twice_as_much() -> None:
    desk = Desk()
    desk.hears("decoder", replica="two")
    assert 8 <= desk.admitted_in_a_row(8.0) <= 16


def test_a_backlog_goes_down_with_time_and_a_silent_replica_is_forgotten() -> None:
    desk = Desk()
    desk.hears("decoder", backlog=7)
    with pytest.raises(Overloaded) as refusal:
        desk.admit(8.0)
    assert 0.5 < refusal.value.retry_after < 4
    desk.now += 4
    desk.admit(8.0)
    desk.hears("decoder", backlog=1e6, replica="two")
    desk.now += 100
    desk.admit(8.0)


def test_own_work_that_has_arrived_is_not_counted_twice() -> None:
    desk = Desk()
    ticket = desk.admit(8.0)
    ticket.observe(0, Queued("decoder", 0))
    desk.hears("decoder", backlog=1)
    assert desk.admission.ledgers["decoder"].foreign == 0
    assert desk.admission.ledgers["decoder"].wait(1e9) == pytest.approx(1)


def test_progress_makes_room() -> None:
    desk = Desk()
    ticket = desk.admit()
    decoder = desk.admission.ledgers["decoder"]
    for event, left in (
        (Progressed("prior", 4, 4), 1.0),
        (Progressed("decoder", 4, 8), 0.6),
        (Progressed("decoder", 8, 8), 0.2),
        (Progressed("upsampler", 1, 2), 0.1),
    ):
        ticket.observe(0, event)
        assert decoder.wait(1e9) == pytest.approx(left)
    ticket.observe(0, Drawn(None))  # type: ignore[arg-type]
    assert decoder.wait(1e9) == 0
    desk.stack.close()
    assert not decoder.entries


def test_frames_come_one_after_another() -> None:
    desk = Desk()
    ticket = desk.admit(demands=(PRIOR, Demand("decoder", DECODER.frames * 3)))
    assert desk.admission.ledgers["decoder"].wait(1e9) == pytest.approx(3)
    ticket.observe(0, Progressed("upsampler", 2, 2))
    assert desk.admission.ledgers["decoder"].wait(1e9) == pytest.approx(2)
    ticket.observe(0, Progressed("decoder", 4, 8))
    assert desk.admission.ledgers["decoder"].wait(1e9) == pytest.approx(1.6)


def test_a_shorter_deadline_goes_first_but_makes_nobody_late() -> None:
    desk = Desk()
    for _ in range(3):
        desk.admit(30.0)
    desk.admit(3.0)
    full = Desk()
    count = full.admitted_in_a_row(8.0)
    assert count >= 4
    more = full.admitted_in_a_row(3.0)
    assert more <= 2  # one more would make the last of the others late
    assert count + more <= 8


def test_what_takes_too_long_even_alone_is_told_so() -> None:
    with pytest.raises(DeadlineMissed):
        Desk().admit(0.5)


def test_places_and_bytes_are_given_back() -> None:
    places = Places(1, 1000, lambda: 7.0)
    with places.place(), pytest.raises(Overloaded) as refused, places.place():
        pass
    assert refused.value.retry_after == 7.0
    with places.place(), places.holding(600), pytest.raises(Overloaded), places.holding(600):
        pass
    with places.holding(600), places.holding(5000, own=600):  # alone it is let in
        pass


def test_nothing_is_refused_while_nothing_is_known() -> None:
    unknown = Admission({"prior": Backlog(), "decoder": Backlog()})
    with unknown.admitted((PRIOR, DECODER), 10, Budget(0.5, "id")):
        pass


def test_a_request_counts_with_all_its_rows() -> None:
    """Six candidates for each of eight pictures are 48 rows, of 96."""
    desk = Desk()
    candidates = Demand("prior", ((Steps(0, 10),),), rows=6)
    desk.admit(pictures=8, demands=(candidates,))
    desk.admit(pictures=8, demands=(candidates,))
    with pytest.raises(Overloaded, match="every place"):
        desk.admit(pictures=1, demands=(candidates,))


def test_of_a_picture_in_frames_the_stage_has_one_frame_at_a_time() -> None:
    """What is still to come is no work of other gateways."""
    desk = Desk()
    frames = Demand("decoder", ((Steps(64, 10),),) * 8)  # half a second each
    ticket = desk.admit(demands=(frames,))
    ticket.observe(0, Queued("decoder", 0))
    desk.hears("decoder", backlog=8.0)  # half a second of it ours
    assert desk.admission.ledgers["decoder"].foreign == pytest.approx(7.5)
    assert desk.admission.ledgers["decoder"].wait(1e9) == pytest.approx(11.5)


def test_a_row_alone_costs_what_a_small_call_does() -> None:
    backlog = Backlog(lambda: 0.0)
    costs = [
        sampling_pb2.NetworkCost(size=64, seconds=seconds, evaluations=evaluations)
        for evaluations, seconds in ((8, 0.4), (2, 0.1))
    ]
    backlog.told(sampling_pb2.EngineLoad(replica="one", costs=costs))
    assert backlog.alone(Steps(64, 10, 2)) == pytest.approx(1.0)
    assert backlog.alone(Steps(64, 10, 5)) == pytest.approx(2.5)
    assert backlog.alone(Steps(64, 10, 3.5)) == pytest.approx(1.75), "in the mean of its steps"
    assert backlog.alone(Steps(64, 10, 1)) == pytest.approx(1.0), "as much as the smallest that was measured"
    assert backlog.work(Steps(64, 10, 2)) == pytest.approx(1.0), "a quarter of a full call"
    assert backlog.alone(Steps(256, 10, 2)) == 0, "never measured"


def test_the_door_and_the_engine_let_wait_alike() -> None:
    assert admission.STRETCH == scheduler.STRETCH
