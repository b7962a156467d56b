"""Work ahead of its tenant's quota: it waits while the stages have enough to do, and holds nobody up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from gateway import pacing
from gateway.admission import Admission
from gateway.ledger import Demand
from gateway.pacing import Pacing
from gateway.quota import Quota
from gateway.settings import SHIPPED
from gateway.stages.backlog import Backlog, Steps
from gateway.stages.budget import Budget, Priority
from services.wire.errors import Overloaded
from tests.fakes.stages import FakeStages, load_of
from tests.gateway.conftest import FOX, Front, fronting, png_of, until
from unclip.internal.v1 import sampling_pb2
from unclip.v1 import image_service_pb2 as pb

DEMANDS = (Demand("decoder", ((Steps(64, 4, 2),),)),)  # of 0.4 s
CALL = 4  # rows
BUSY = pacing.CALLS * CALL
PLACES = 16
MOST = 40


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LOOK_SECONDS", 0.001)


@dataclass
class House:
    """A gateway's books on a clock of the test's own, and a decoder that tells its rows."""

    now: float = 0.0
    went: list[str] = field(default_factory=list)  # whose turn has come

    def __post_init__(self) -> None:
        self.backlog = Backlog(lambda: self.now)
        self.admission = Admission({"decoder": self.backlog}, lambda: self.now)
        self.pacing = Pacing(self.admission.ledgers, MOST, lambda: self.now)
        self.decoder_has(0)

    def decoder_has(self, rows: int) -> None:
        cost = sampling_pb2.NetworkCost(size=64, seconds=0.1, evaluations=2 * CALL)
        self.backlog.told(
            sampling_pb2.EngineLoad(replica="one", rows_running=rows, max_rows=PLACES, costs=[cost])
        )

    async def request(
        self, name: str, lag: float, seconds: float = 1e6, priority: Priority = "interactive"
    ) -> None:
        budget = Budget(seconds, "id", priority, clock=lambda: self.now)
        budget.lags(lag)
        slack = self.admission.check(DEMANDS, 1, budget)
        if self.pacing.holds_back(DEMANDS, budget):
            await self.pacing.turn(DEMANDS, budget, slack)
        with self.admission.admitted(DEMANDS, 1, budget):
            self.went.append(name)
            await asyncio.sleep(3600)  # it is on its way to the stage

    @contextlib.contextmanager
    def requests(self, **lags: float) -> Iterator[None]:
        tasks = [asyncio.create_task(self.request(name, lag)) for name, lag in lags.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def soon() -> None:
    """Long enough for everybody to look."""
    await asyncio.sleep(0.1)


async def test_without_lag_nobody_waits_however_busy_the_stage() -> None:
    house = House()
    house.decoder_has(PLACES - 1)
    with house.requests(quiet=0.0):
        await soon()
        assert house.went == ["quiet"]


async def test_one_that_lags_goes_at_once_to_an_idle_stage() -> None:
    house = House()
    with house.requests(noisy=30.0):
        await soon()
        assert house.went == ["noisy"]


async def test_one_that_lags_waits_until_the_stage_has_less_to_do() -> None:
    house = House()
    house.decoder_has(BUSY)
    with house.requests(noisy=30.0):
        await soon()
        assert house.went == []
        house.decoder_has(BUSY - 1)
        await soon()
        assert house.went == ["noisy"]


async def test_one_that_no_longer_lags_goes_however_busy_the_stage() -> None:
    house = House()
    house.decoder_has(PLACES - 1)
    with house.requests(noisy=0.2):
        await soon()
        assert house.went == []
        house.now = 31.0
        await until(lambda: house.went == ["noisy"])


async def test_nobody_waits_until_it_is_too_late_for_the_deadline() -> None:
    house = House()
    house.decoder_has(BUSY)
    task = asyncio.create_task(house.request("noisy", 30.0, seconds=1.0))
    await soon()
    assert house.went == []
    house.now = 0.21
    await until(lambda: house.went == ["noisy"])
    task.cancel()


async def test_those_due_first_go_first_and_as_many_as_there_is_room_for() -> None:
    house = House()
    house.decoder_has(BUSY)
    with house.requests(third=30.0, first=10.0, second=20.0):
        await soon()
        house.decoder_has(BUSY - 1)  # room for one
        await soon()
        assert house.went == ["first"]
        house.decoder_has(0)
        await soon()
        assert house.went == ["first", "second", "third"]


async def test_interactive_requests_go_before_batch_ones() -> None:
    house = House()
    house.decoder_has(BUSY)
    tasks = [asyncio.create_task(house.request("batch", 5.0, priority="batch"))]
    tasks.append(asyncio.create_task(house.request("interactive", 30.0)))
    await soon()
    house.decoder_has(BUSY - 1)
    await soon()
    assert house.went == ["interactive"]
    for task in tasks:
        task.cancel()


async def test_a_caller_that_leaves_frees_its_turn() -> None:
    house = House()
    house.decoder_has(BUSY)
    leaving = asyncio.create_task(house.request("leaving", 10.0))
    with house.requests(staying=20.0):
        await soon()
        leaving.cancel()
        await soon()
        house.decoder_has(0)
        await soon()
        assert house.went == ["staying"]


async def test_an_idle_stage_gets_all_of_a_long_line_that_it_has_room_for_at_once() -> None:
    house = House()
    house.decoder_has(BUSY)
    with house.requests(**{f"noisy{i:02}": 10.0 + i for i in range(MOST)}):
        await soon()
        assert house.went == []
        house.decoder_has(0)
        await soon()
        assert house.went == [f"noisy{i:02}" for i in range(BUSY)]


async def test_only_so_many_may_wait_and_the_others_hear_when_to_come_again() -> None:
    house = House()
    house.decoder_has(BUSY)
    with house.requests(**{f"noisy{i}": 10.0 + i for i in range(MOST)}):
        await soon()
        with pytest.raises(Overloaded, match="ahead of their quota") as refused:
            await house.request("one more", 60.0)
        assert refused.value.retry_after == pytest.approx(60.0)


async def test_a_gateway_that_stops_holds_nobody_back() -> None:
    house = House()
    house.decoder_has(BUSY)
    with house.requests(one=10.0, other=20.0):
        await soon()
        house.pacing.stop()
        await soon()
        assert house.went == ["one", "other"]


# --- through the door ---

TWO_A_MINUTE = {"*": Quota(pictures=2)}  # the second lags by half a minute


def line_of(front: Front) -> Pacing:
    return front.gateway.models._images[SHIPPED].pacing


def busy() -> FakeStages:
    return FakeStages(load=load_of(rows=10))


async def test_a_burst_reaches_no_stage_before_there_is_room() -> None:
    stages = busy()
    async with fronting(stages, quotas=TWO_A_MINUTE) as front:
        assert (await front.images.Generate(FOX)).pictures  # it does not lag
        came = len(stages.tasks)
        second = asyncio.ensure_future(front.images.Generate(FOX))
        await asyncio.sleep(1.0)
        assert not second.done()
        assert len(stages.tasks) == came
        stages.load = load_of()  # which the gateway hears of, though it has nothing under way
        assert (await second).pictures


async def test_an_edit_that_waits_holds_no_bytes() -> None:
    stages = busy()
    async with fronting(stages, quotas=TWO_A_MINUTE) as front:
        assert (await front.images.Generate(FOX)).pictures
        picture = png_of(np.zeros((256, 256, 3), np.uint8))
        request = pb.OutpaintRequest(picture=picture, prompt="a fox", margins=pb.Margins(left=8))
        waiting = asyncio.ensure_future(front.images.Outpaint(request))
        await until(lambda: line_of(front).waits)
        assert front.gateway.models.places._bytes <= 4 * len(picture)
        stages.load = load_of()
        assert (await waiting).pictures


async def test_a_gateway_that_stops_lets_what_waits_be_done() -> None:
    stages = busy()
    async with fronting(stages, quotas=TWO_A_MINUTE) as front:
        assert (await front.images.Generate(FOX)).pictures
        second = asyncio.ensure_future(front.images.Generate(FOX))
        await until(lambda: line_of(front).waits)
        await front.gateway.stop(5)
        assert (await second).pictures
