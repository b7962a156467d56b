"""The scheduler's rules on a clock of the test's own, against a brute-force model. Nothing here waits."""

from __future__ import annotations

from typing import Any

import pytest

from services.engine import (
    CallSizes,
    CostModel,
    DeadlineMissed,
    DeadlineUnreachable,
    EngineLimits,
    QueueFull,
    Segment,
)
from services.engine.jobs import Row
from services.engine.scheduler import STRETCH
from tests.engine.device import Device, picture


def test_a_step_is_one_network_call() -> None:
    device = Device()
    for _ in range(3):
        device.admit(picture(evaluations=1))
    device.run()
    base = [batch for batch in device.batches if batch.network == "base"]
    assert [len(batch.rows) for batch in base] == [2, 2, 2, 2, 1, 1, 1, 1]
    assert all(len(batch.rows) == 1 for batch in device.batches if batch.network == "up")


def test_rows_of_another_shape_or_network_do_not_share_a_call() -> None:
    device = Device(sizes=CallSizes(8))
    for shape in ((1,), (2,), (1,), (2,)):
        device.admit([Segment("base", 3, 1, shape)])
    device.run()
    for batch in device.batches:
        assert len({job.rows[i].plan[0].shape for job, i in batch.rows}) == 1
        assert len(batch.rows) == 2


def test_the_first_to_be_due_is_served_first() -> None:
    device = Device()
    late = device.admit(within=100)
    soon = device.admit(within=50)
    device.run()
    assert device.ended[soon] < device.ended[late]


def test_a_short_job_does_not_wait_behind_long_ones() -> None:
    device = Device()
    for _ in range(5):
        device.admit(picture(steps=60))
    device.run(until=5)
    short = device.admit(picture(steps=1, ups=1))
    device.run()
    assert device.ended[short] - short.arrived < 60


def test_one_tenants_few_do_not_wait_behind_anothers_many() -> None:
    """Each of the many lags by what those before it need; the few come later, and are next."""
    device = Device()
    each = device.scheduler._alone([Row(picture())])
    many = [device.admit(lag=i * each) for i in range(10)]
    device.run(until=2.5 * each)
    few = device.admit()
    device.run()
    assert sum(device.ended[job] < device.ended[few] for job in many) <= 3
    assert device.ended[few] - few.arrived < 2.5 * each


def test_callers_without_a_deadline_wait_a_bounded_multiple_of_their_work() -> None:
    """A stream of callers with near deadlines fills the device for ever.

    It serves the other one all the same.
    """
    device = Device()
    device.admit()
    patient = device.admit()
    alone = 10.0
    while patient not in device.ended and device.now < 100 * alone:
        try:
            device.admit(within=15)
        except (DeadlineUnreachable, QueueFull):
            device.step()
    assert device.ended[patient] - patient.arrived <= (STRETCH["interactive"] + 2) * alone
    assert not device.missed


def test_batch_work_yields_but_is_not_starved() -> None:
    device = Device()
    device.admit()
    batch = device.admit(priority="batch")
    interactive = [device.admit() for _ in range(8)]
    device.run()
    assert device.ended[batch] == max(device.ended.values())
    device = Device()
    batch = device.admit(priority="batch")
    while batch not in device.ended and device.now < 5000:
        if len(device.scheduler.jobs) < 4:
            device.admit()
        device.step()
    assert device.ended[batch] - batch.arrived <= (STRETCH["batch"] + 5) * 10
    assert interactive


def test_many_that_fit_one_call_are_admitted_where_one_would_be() -> None:
    """Eight rows of one call take as long as one; all eight make a deadline that one makes."""
    device = Device(sizes=CallSizes(8, {"base": (8,)}))
    device.admit([Segment("base", 10)], within=11)
    device.step()
    for _ in range(7):
        device.admit([Segment("base", 10)], within=11)
    device.run()
    assert len(device.ended) == 8
    assert not device.missed


@pytest.mark.parametrize(("sizes", "shared"), [((4,), True), ((2, 4), False)], ids=["one size", "two"])
@pytest.mark.parametrize("given", [{"priority": "batch"}, {"lag": 50.0}], ids=["batch", "ahead of its quota"])
def test_who_can_wait_only_fills_up_what_others_leave_of_a_call(
    given: dict[str, Any], sizes: tuple[int, ...], shared: bool
) -> None:
    device = Device(sizes=CallSizes(8, {"base": sizes, "up": (1,)}))
    urgent, waiting = device.admit(), device.admit(**given)
    device.step()
    assert device.batches[0].jobs == ([urgent, waiting] if shared else [urgent])
    device.run()
    assert device.ended[urgent] <= device.ended[waiting]


def test_who_can_wait_shares_calls_with_its_like_and_once_its_tenant_is_no_longer_ahead() -> None:
    device = Device(sizes=CallSizes(8, {"base": (2, 4), "up": (1,)}))
    jobs = [device.admit(lag=5.0) for _ in range(2)]
    device.step()
    assert device.batches[-1].jobs == jobs
    device.now += 5.0
    urgent = device.admit()
    device.step()
    assert len(device.batches[-1].rows) == 2
    device.run()
    assert urgent in device.ended


def test_what_not_even_an_idle_engine_can_do_is_told_apart_from_what_it_cannot_do_now() -> None:
    device = Device()
    with pytest.raises(DeadlineMissed):
        device.admit(within=9.9)
    device.admit(within=10)
    with pytest.raises(DeadlineUnreachable) as refusal:
        device.admit(within=12)
    assert refusal.value.retry_after == pytest.approx(8)


def test_nobody_is_made_late_by_a_later_more_urgent_caller() -> None:
    device = Device()
    first = device.admit(within=14)
    with pytest.raises(DeadlineUnreachable):
        device.admit(within=10.5)
    device.run()
    assert device.ended[first] == 10


def test_a_full_queue_refuses_until_its_first_job_has_ended() -> None:
    device = Device(limits=EngineLimits(max_running=1, max_waiting=1))
    device.admit()
    waiting = device.admit()
    with pytest.raises(QueueFull) as refusal:
        device.admit()
    assert refusal.value.retry_after == pytest.approx(10)
    device.run(until=10)
    assert waiting in device.scheduler.jobs
    device.admit()


def test_a_job_larger_than_all_places_runs_alone() -> None:
    device = Device(limits=EngineLimits(max_running=2, max_waiting=9))
    large = device.admit(*[picture() for _ in range(5)])
    device.step()
    small = device.admit()
    device.step()
    assert small.began is None
    device.run()
    assert set(device.ended) == {large, small}


def test_what_has_not_begun_makes_way_for_what_is_due_sooner() -> None:
    device = Device(limits=EngineLimits(max_running=1, max_waiting=9))
    device.admit()
    device.step()
    later = device.admit()
    sooner = device.admit(within=25)
    device.run()
    assert device.ended[sooner] < device.ended[later]
    assert not device.missed


def test_batch_work_leaves_room_for_interactive_work() -> None:
    device = Device(limits=EngineLimits(max_running=4, max_waiting=9))
    batch = [device.admit(picture(steps=100, evaluations=1), priority="batch") for _ in range(4)]
    device.run(until=20)
    assert [job.began is not None for job in batch] == [True, True, False, False]
    urgent = device.admit(within=12)
    device.run()
    assert device.ended[urgent] - urgent.arrived <= 12
    assert set(batch) <= set(device.ended)


def test_one_stall_does_not_make_an_engine_refuse_for_ever() -> None:
    device = Device()
    batch = device.scheduler.pick() if device.admit(within=30) else None
    assert batch is not None
    device.scheduler.stepped(batch, 1000.0)
    device.scheduler.remove(batch.jobs[0])
    device.now += 1000
    assert device.admit(within=20)


@pytest.mark.parametrize("steps", [0, 3, 5])
def test_a_job_that_is_cancelled_leaves_at_once_whatever_it_is_doing(steps: int) -> None:
    device = Device(limits=EngineLimits(max_running=1, max_waiting=5))
    doomed = device.admit()
    other = device.admit()
    for _ in range(steps):
        device.step()
    device.scheduler.remove(doomed)
    device.scheduler.remove(doomed)  # twice is no matter
    device.run()
    assert doomed not in device.ended
    assert other in device.ended
    waiting = device.admit()
    device.scheduler.remove(waiting)
    assert not device.step()


def test_a_job_that_is_cancelled_in_the_middle_of_its_step_does_not_come_back() -> None:
    device = Device()
    doomed = device.admit(picture(evaluations=1))
    kept = device.admit(picture(evaluations=1))
    batch = device.scheduler.pick()
    assert batch is not None
    assert batch.jobs == [doomed, kept]
    device.scheduler.remove(doomed)
    assert device.scheduler.stepped(batch, 1.0) == []
    device.run()
    assert list(device.ended) == [kept]


def test_costs_are_learnt_by_the_size_of_a_call() -> None:
    costs = CostModel(CallSizes(8))
    assert costs.seconds("base", 4) == 0
    costs.measured("base", 2, 1.0)
    assert costs.seconds("base", 1) == 1.0  # no less than the smallest that was seen
    assert costs.seconds("base", 8) == 4.0  # in proportion, until it was seen
    costs.measured("base", 8, 2.0)
    assert costs.seconds("base", 5) == pytest.approx(1.5)
    padded = CostModel(CallSizes(8, {"base": (16,)}))
    padded.measured("base", 2, 1.0)
    assert padded.seconds("base", 16) == 1.0
