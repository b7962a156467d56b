"""The simulated cluster: its arithmetic can be told beforehand; a scenario always gives the same report."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from deploy.simulation.arrivals import Trace, arrivals, rate_at
from deploy.simulation.clock import simulated
from deploy.simulation.profile import PROFILES, Call, NetworkProfile, Profile, StageProfile
from deploy.simulation.scenario import Fault, Scenario, run
from deploy.simulation.sizing import sized
from services.engine.settings import EngineSettings

BASE = NetworkProfile(
    size=64, call_sizes=(2,), steps=10, evaluations=2, calls=(Call(evaluations=2, seconds=0.04),)
)
RAISED = NetworkProfile(size=256, call_sizes=(1,), steps=1, calls=(Call(evaluations=1, seconds=0.1),))
PRIOR = NetworkProfile(
    size=0, call_sizes=(16,), steps=10, evaluations=2, calls=(Call(evaluations=16, seconds=0.01),)
)
ENGINE = EngineSettings(max_batch=8, max_running=32, max_waiting=64)
PROFILE = Profile(
    device="test",
    model="test",
    prior=StageProfile(networks=(PRIOR,), rows=2, engine=ENGINE),
    decoder=StageProfile(networks=(BASE, RAISED), engine=ENGINE),
    encoder_seconds=0.01,
    cold_start_seconds=20.0,
)
SCENARIO = Scenario(PROFILE, rate=5.0, deadline=20.0, priors=1, decoders=4, seconds=100.0)


def test_time_jumps_to_what_comes_next() -> None:
    async def waits() -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(86400))
        return asyncio.get_running_loop().time()

    assert simulated(waits()) == pytest.approx(86400)


def test_what_never_comes_is_an_error() -> None:
    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="never comes"):
        simulated(waits())


def test_a_replicas_capacity_is_that_of_full_calls() -> None:
    assert PROFILE.decoder.pictures_a_second == pytest.approx(1 / (10 * 0.04 + 0.1))
    assert PROFILE.prior.pictures_a_second == pytest.approx(8 / (2 * 10 * 0.01))


def test_steps_without_guidance_are_one_evaluation() -> None:
    calls = (Call(evaluations=1, seconds=0.02), Call(evaluations=2, seconds=0.04))
    partly = BASE.model_copy(update={"evaluations": 1.6, "call_sizes": (1, 2), "calls": calls})
    stage = StageProfile(networks=(partly, RAISED), engine=ENGINE)
    told = [(segment.network, segment.steps, segment.evaluations) for segment in stage.plan()]
    assert told == [("64", 6, 2), ("64", 4, 1), ("256", 1, 1)]
    assert stage.pictures_a_second == pytest.approx(1 / (6 * 0.04 + 4 * 0.02 + 0.1))
    assert [segment.steps for segment in stage.plan(5)] == [3, 2, 1]


def test_what_is_not_spent_in_calls_is_known_from_a_busy_decoder() -> None:
    measured = PROFILE.saturated(1 / (10 * 0.04 + 0.1 + 11 * 0.003))
    assert measured.step_overhead_seconds == pytest.approx(0.003)
    assert PROFILE.saturated(1e6).step_overhead_seconds == 0.0


def test_above_full_load_requests_fill_their_deadlines() -> None:
    """What waits at a stage is counted once: as the gateway's own work, not as that of other gateways too."""
    report = run(replace(SCENARIO, rate=3.0, decoders=1, seconds=200.0))
    assert report.refused > 0.2
    assert report.p50 > SCENARIO.deadline / 2


def test_a_picture_alone_takes_what_its_steps_take() -> None:
    exact = PROFILE.model_copy(update={"noise": 0.0, "step_overhead_seconds": 0.0})
    lonely = replace(SCENARIO, rate=0.05, seconds=2000.0, profile=exact)
    report = run(lonely)
    assert report.goodput == 1.0
    prior, decoder = 10 * 0.01, 10 * 0.04 + 0.1
    assert report.p50 == pytest.approx(0.01 + 6 * 0.002 + prior + decoder, abs=0.02)


def test_the_same_scenario_gives_the_same_report() -> None:
    assert run(SCENARIO) == run(SCENARIO)
    assert run(SCENARIO) != run(replace(SCENARIO, seed=1))


def test_a_cluster_that_is_large_enough_serves_all() -> None:
    report = run(SCENARIO)
    assert report.goodput == 1.0
    assert report.lost == 0.0
    assert 0.5 < report.busy_decoder < 0.8


@pytest.mark.parametrize("gateways", [1, 4])
def test_ten_times_too_much_is_refused_at_the_door(gateways: int) -> None:
    """The goodput is that of full calls all the time, and next to nobody waits in vain."""
    report = run(replace(SCENARIO, rate=80.0, gateways=gateways))
    capacity = 4 * PROFILE.decoder.pictures_a_second
    assert report.goodput * 80 > 0.85 * capacity
    assert report.refused > 0.8
    assert report.lost < 0.02


@pytest.mark.parametrize("fault", ["deaths", "zone", "rollout", "cold start"])
def test_requests_outlive_replicas(fault: Fault) -> None:
    ample = replace(SCENARIO, decoders=8, priors=3, fault=fault, seconds=200.0)
    report = run(ample)
    assert report.goodput > 0.97
    assert report.failed == 0.0


def test_a_flood_that_is_bounded_leaves_room_for_the_others() -> None:
    flooded = replace(SCENARIO, trace="flood", decoders=6, seconds=200.0)
    open_to_all = run(flooded)
    bounded = run(replace(flooded, in_flight=2))
    assert bounded.goodput > 0.98
    assert open_to_all.goodput < bounded.goodput


def test_as_few_replicas_as_it_takes() -> None:
    found, report = sized(replace(SCENARIO, decoders=1, rate=6.0, seconds=50.0))
    assert report.goodput >= 0.99
    assert run(replace(found, decoders=found.decoders - 1)).goodput < 0.99
    assert found.decoders >= 6 / PROFILE.decoder.pictures_a_second * 0.9
    with pytest.raises(ValueError, match="no number of replicas"):
        sized(replace(SCENARIO, deadline=0.3))


@pytest.mark.parametrize("trace", ["steady", "daily", "burst"])
def test_traces_average_to_their_rate(trace: Trace) -> None:
    total = sum(rate_at(trace, 2.0, share / 1000) for share in range(1000)) / 1000
    assert total == pytest.approx(2.0, rel=0.01)
    dice = random.Random(0)
    found = list(arrivals(trace, 20.0, 500.0, 10.0, dice))
    assert sum(arrival.pictures for arrival in found) / 500 == pytest.approx(20.0, rel=0.1)
    assert [arrival.at for arrival in found] == sorted(arrival.at for arrival in found)


@pytest.mark.parametrize("file", sorted(PROFILES.glob("*.json")), ids=lambda file: file.stem)
def test_profiles_that_come_along_can_be_read(file: object) -> None:
    assert Profile.load(str(file)).decoder.pictures_a_second > 0
