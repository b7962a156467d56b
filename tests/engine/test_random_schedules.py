"""Random schedules against a brute-force model of the device."""

from __future__ import annotations

import contextlib
import copy
import math
import random

import pytest

from services.engine import CallSizes, DeadlineMissed, EngineLimits, Overloaded, Priority
from services.engine.jobs import Job
from tests.engine.device import COSTS, Device, picture


def double_of(device: Device) -> Device:
    """A copy with a clock of its own, without its past."""
    past = device.batches, device.ended
    device.batches, device.ended = [], {}
    double = copy.deepcopy(device)
    device.batches, device.ended = past
    double.scheduler.clock = lambda: double.now
    return double


def brute_force_misses(device: Device) -> int:
    """Run a copy of everything to its end, step by step, and count who is late."""
    double = double_of(device)
    double.scheduler.expire = list  # type: ignore[method-assign]
    double.run()
    return sum(end > job.deadline + 1e-9 for job, end in double.ended.items())


@pytest.mark.parametrize("seed", range(12))
def test_random_schedules(seed: int) -> None:
    """Whoever is admitted is in time; whoever is refused would have been late, or made somebody late."""
    dice = random.Random(seed)
    device = Device(limits=EngineLimits(max_running=100, max_waiting=100))
    admitted: list[Job] = []
    cancelled: set[Job] = set()
    for _ in range(60):
        within = math.inf if dice.random() < 0.2 else dice.uniform(5, 120)
        plan = picture(steps=dice.randint(1, 12), ups=dice.randint(1, 3))
        priority: Priority = "batch" if dice.random() < 0.2 else "interactive"
        before = double_of(device)
        try:
            admitted.append(device.admit(plan, within=within, priority=priority))
            assert brute_force_misses(device) == 0
        except (DeadlineMissed, Overloaded):
            before.scheduler._require_time = lambda job, now: None  # type: ignore[method-assign]
            try:
                before.admit(plan, within=within, priority=priority)
            except DeadlineMissed:
                assert sum(COSTS[s.network] * s.steps for s in plan) > within
            else:
                assert brute_force_misses(before) > 0, "refused, though all would have been in time"
        if admitted and dice.random() < 0.1:
            victim = dice.choice(admitted)
            device.scheduler.remove(victim)
            cancelled.add(victim)
        for _ in range(dice.randint(2, 12)):
            device.step()
    device.run()
    assert not device.missed
    assert {job for job in admitted if job not in cancelled} <= set(device.ended)
    assert not device.scheduler.jobs


@pytest.mark.parametrize("places", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_whoever_is_admitted_is_in_time_however_few_may_run(places: int, seed: int) -> None:
    dice = random.Random(seed)
    device = Device(limits=EngineLimits(max_running=places, max_waiting=20))
    for _ in range(60):
        within = math.inf if dice.random() < 0.3 else dice.uniform(5, 120)
        plan = picture(dice.randint(1, 12), dice.randint(1, 3), dice.randint(1, 2))
        priority: Priority = "batch" if dice.random() < 0.4 else "interactive"
        with contextlib.suppress(DeadlineMissed, Overloaded):
            device.admit(*[plan] * dice.randint(1, 2), within=within, priority=priority)
        for _ in range(dice.randint(2, 12)):
            device.step()
    device.run()
    assert not device.missed
    assert not device.scheduler.jobs


@pytest.mark.parametrize("growth", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_whoever_is_admitted_is_in_time_where_company_makes_calls_longer(growth: float, seed: int) -> None:
    dice = random.Random(seed)
    sizes = CallSizes(8, {"base": (2, 4, 6, 8), "up": (1,)})
    device = Device(sizes, growth, EngineLimits(max_running=32, max_waiting=40))
    admitted = 0
    for _ in range(80):
        within = math.inf if dice.random() < 0.3 else dice.uniform(5, 120)
        plan = picture(dice.randint(1, 12), dice.randint(1, 3), dice.randint(1, 2))
        priority: Priority = "batch" if dice.random() < 0.3 else "interactive"
        with contextlib.suppress(DeadlineMissed, Overloaded):
            device.admit(plan, within=within, priority=priority)
            admitted += 1
        for _ in range(dice.randint(1, 8)):
            device.step()
    device.run()
    assert not device.missed
    assert not device.scheduler.jobs
    assert admitted > 30


@pytest.mark.parametrize("seed", range(3))
def test_under_ten_times_the_load_the_device_is_kept_busy_with_work_that_counts(seed: int) -> None:
    dice = random.Random(seed)
    device = Device(limits=EngineLimits(max_running=8, max_waiting=16))
    arrival = 0.0
    while device.now < 800:
        while arrival <= device.now:
            with contextlib.suppress(Overloaded):
                device.admit(within=80)
            arrival += dice.expovariate(1.0)  # one a second, where a picture takes ten
        device.step()
    assert not device.missed
    assert len(device.ended) >= 0.95 * device.now / 10
