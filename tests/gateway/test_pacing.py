"""Work ahead of its tenant's quota: it waits while the stages have enough to do, and takes nobody's place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from gateway import pacing
from gateway.admission import Admission
from gateway.ledger import Demand, Ticket
from gateway.pacing import Pacing
from gateway.stages.backlog import Backlog, Steps
from gateway.stages.budget import Budget
from services.wire.errors import Overloaded
from unclip.internal.v1 import sampling_pb2

DEMANDS = (Demand("decoder", ((Steps(64, 4, 2),),)),)  # of 0.4 s
CALL = 4  # rows
PLACES = 16


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LOOK_SECONDS", 0.001)


@dataclass
class House:
    """A gateway's books on a clock of the test's own, and a decoder that tells its rows."""

    now: float = 0.0
    went: list[str] = field(default_factory=list)  # whose turn has come
    told: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backlog = Backlog(lambda: self.now)
        self.admission = Admission({"decoder": self.backlog}, lambda: self.now)
        self.pacing = Pacing(self.admission.ledgers, lambda: self.now)
        self.decoder_has(0)

    def decoder_has(self, rows: int) -> None:
        cost = sampling_pb2.NetworkCost(size=64, seconds=0.1, evaluations=2 * CALL)
        self.backlog.told(
            sampling_pb2.EngineLoad(replica="one", rows_running=rows, max_rows=PLACES, costs=[cost])
        )

    @contextlib.contextmanager
    def admitted(self, lag: float, seconds: float = 1e6) -> Iterator[tuple[Ticket, Budget]]:
        budget = Budget(seconds, "id", clock=lambda: self.now)
        budget.lags(lag)
        with self.admission.admitted(DEMANDS, 1, budget) as ticket:
            yield ticket, budget

    async def request(self, name: str, lag: float, seconds: float = 1e6) -> None:
        self.told[name] = []
        with self.admitted(lag, seconds) as (ticket, budget):
            async for ahead in self.pacing.turn(DEMANDS, ticket, budget):
                self.told[name].append(ahead)
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
        assert house.told == {"quiet": []}


async def test_one_that_lags_goes_at_once_to_an_idle_stage() -> None:
    house = House()
    with house.requests(noisy=30.0):
        await soon()
        assert house.went == ["noisy"]


async def test_one_that_lags_waits_until_the_stage_has_less_than_two_calls_to_do() -> None:
    house = House()
    house.decoder_has(2 * CALL)
    with house.requests(noisy=30.0):
        await soon()
        assert house.went == []
        house.decoder_has(2 * CALL - 1)
        await soon()
        assert house.went == ["noisy"]


async def test_one_that_no_longer_lags_goes_however_busy_the_stage() -> None:
    house = House()
    house.decoder_has(PLACES - 1)
    with house.requests(noisy=30.0):
        await soon()
        house.now = 31.0
        await soon()
        assert house.went == ["noisy"]


async def test_nobody_waits_until_it_is_too_late_for_the_deadline() -> None:
    house = House()
    house.decoder_has(2 * CALL)
    task = asyncio.create_task(house.request("noisy", 30.0, seconds=10.0))
    await soon()
    assert house.went == []
    house.now = 8.0
    house.decoder_has(2 * CALL)
    await soon()
    assert house.went == ["noisy"]
    task.cancel()


async def test_those_due_first_go_first_and_hear_how_many_are_before_them() -> None:
    house = House()
    house.decoder_has(2 * CALL)
    with house.requests(third=30.0, first=10.0, second=20.0):
        await soon()
        assert {name: told[-1] for name, told in house.told.items()} == {"first": 0, "second": 1, "third": 2}
        house.decoder_has(2 * CALL - 1)  # room for one
        await soon()
        assert house.went == ["first"]
        assert house.told["third"][-1] == 1
        house.decoder_has(0)
        await soon()
        assert house.went == ["first", "second", "third"]


async def test_a_caller_that_leaves_frees_its_turn() -> None:
    house = House()
    house.decoder_has(2 * CALL)
    leaving = asyncio.create_task(house.request("leaving", 10.0))
    with house.requests(staying=20.0):
        await soon()
        leaving.cancel()
        await soon()
        house.decoder_has(0)
        await soon()
        assert house.went == ["staying"]


async def test_those_that_wait_take_no_places_of_the_stage() -> None:
    house = House()
    house.decoder_has(2 * CALL)
    with house.requests(**{f"noisy{i}": 10.0 + i for i in range(2 * PLACES)}):
        await soon()
        assert house.went == []
        with house.admitted(0.0):
            assert len(house.admission.ledgers["decoder"].entries) == 2 * PLACES + 1
        with contextlib.ExitStack() as on_their_way:
            for _ in range(PLACES - 2 * CALL):
                on_their_way.enter_context(house.admitted(0.0))
            with pytest.raises(Overloaded):
                on_their_way.enter_context(house.admitted(0.0))
