"""Which model is served, as the gateway sees it.

Stages that may sleep are left asleep, and nothing goes stale.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway import readiness
from gateway.readiness import StageWatch
from gateway.settings import SHIPPED, Settings
from gateway.stages import Clients
from gateway.stages.budget import Budget
from services.wire.errors import StageUnavailable
from services.wire.stages import STAGES
from tests.fakes.stages import FakeStages, addresses_of, load_of, serve_fake_stages


async def test_a_full_stage_is_up() -> None:
    stages = FakeStages(full={"decoder"})
    async with serve_fake_stages(stages) as address:
        clients = Clients(Settings(**addresses_of(address)))
        own = clients.of(SHIPPED)
        watch = StageWatch(SHIPPED, own)
        await watch.look()
        assert watch.down == ()
        await clients.close()


async def test_a_stage_that_has_just_told_its_load_is_not_asked_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = FakeStages()
    async with serve_fake_stages(stages) as address:
        clients = Clients(Settings(**addresses_of(address)))
        own = clients.of(SHIPPED)
        watch = StageWatch(SHIPPED, own)
        await watch.listen("decoder")
        own.decoder.backlog.told(load_of())
        monkeypatch.setattr(readiness, "LISTEN_SECONDS", 3600.0)
        monkeypatch.setattr(readiness, "UNASKED_SECONDS", 3600.0)
        await watch.listen("decoder")
        assert stages.described == ["decoder"]
        monkeypatch.setattr(readiness, "UNASKED_SECONDS", 0.0)
        await watch.listen("decoder")  # there may be replicas that it does not know of
        monkeypatch.setattr(readiness, "LISTEN_SECONDS", 0.0)
        monkeypatch.setattr(readiness, "UNASKED_SECONDS", 3600.0)
        await watch.listen("decoder")
        assert stages.described == ["decoder"] * 3
        await clients.close()


async def test_many_who_need_the_model_at_once_share_one_look() -> None:
    stages = FakeStages(down={"prior"})
    async with serve_fake_stages(stages) as address:
        clients = Clients(Settings(**addresses_of(address)))
        own = clients.of(SHIPPED)
        watch = StageWatch(SHIPPED, own)
        answers = await asyncio.gather(*(watch.model("prior") for _ in range(9)), return_exceptions=True)
        assert all(isinstance(answer, StageUnavailable) for answer in answers)
        assert stages.described.count("decoder") == 1
        await clients.close()


async def test_texts_are_cached_though_the_encoder_sleeps() -> None:
    stages = FakeStages()
    async with serve_fake_stages(stages) as address:
        clients = Clients(Settings(**addresses_of(address)))
        own = clients.of(SHIPPED)
        budget = Budget(10, "id")
        for _ in range(3):
            await own.text_encoder.encode("a fox", "", budget)
        assert stages.texts == ["a fox", ""]
        await clients.close()


async def test_what_an_older_sleeping_encoder_made_is_not_used() -> None:
    stages = FakeStages()
    async with serve_fake_stages(stages) as address:
        clients = Clients(Settings(**addresses_of(address)))
        own = clients.of(SHIPPED)
        watch = StageWatch(SHIPPED, own, sleeping=["text_encoder"])
        await watch.look()
        budget = Budget(10, "id")
        await own.text_encoder.encode("a fox", "", budget)
        stages.versions = dict.fromkeys(STAGES, "next")
        await watch.look()
        await own.text_encoder.encode("a fox", "", budget)
        assert stages.texts == ["a fox", "", "a fox", ""]
        assert "text_encoder" not in stages.described
        await clients.close()


async def test_both_texts_of_a_request_are_of_one_version() -> None:
    """The encoder is another while its old answers are still in the cache."""
    stages = FakeStages()
    async with serve_fake_stages(stages) as address:
        clients = Clients(Settings(**addresses_of(address)))
        own = clients.of(SHIPPED)
        budget = Budget(10, "id")
        await own.text_encoder.encode("a fox", "", budget)
        await own.text_encoder.encode("a cat", "", budget)
        stages.versions["text_encoder"] = "next"
        stages.texts.clear()
        await own.text_encoder.encode("an owl", "", budget)
        assert stages.texts == ["an owl", "an owl", ""]
        await clients.close()


async def test_one_look_hears_of_many_replicas() -> None:
    stages = FakeStages()
    async with serve_fake_stages(stages) as address:
        clients = Clients(Settings(**addresses_of(address)))
        own = clients.of(SHIPPED)
        watch = StageWatch(SHIPPED, own)
        for replicas in range(1, 6):
            stages.load = load_of(replica=str(replicas))
            await watch.look()
        assert own.decoder.backlog.replicas == 5
        assert stages.described.count("decoder") == 1 + 2 + 3 + 4 + 5
        await clients.close()


async def test_stages_that_may_sleep_are_described_only_when_need_be() -> None:
    stages = FakeStages()
    async with serve_fake_stages(stages) as address:
        clients = Clients(Settings(**addresses_of(address)))
        own = clients.of(SHIPPED)
        watch = StageWatch(SHIPPED, own, sleeping=("image_encoder", "prior"))
        await watch.look()
        assert watch.down == ()
        assert sorted(stages.described) == ["decoder", "prior", "text_encoder"]
        stages.described.clear()
        await watch.look()
        assert sorted(set(stages.described)) == ["decoder", "text_encoder"]

        stages.versions = dict.fromkeys(STAGES, "next")
        await watch.look()  # finds that versions differ, so that the next look asks again
        stages.described.clear()
        await watch.look()
        assert "prior" in stages.described
        stages.described.clear()
        await watch.look()
        assert "prior" not in stages.described
        assert (await watch.model()).version == "next"
        await clients.close()
