"""Which model is served, as the gateway sees it.

Stages that may sleep are left asleep, and nothing goes stale.
"""

from __future__ import annotations

from gateway.readiness import StageWatch
from gateway.settings import Settings
from gateway.stages import Stages
from services.wire.stages import STAGES
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages


async def test_stages_that_may_sleep_are_described_only_when_need_be() -> None:
    stages = FakeStages()
    async with serve_fake_stages(stages) as address:
        clients = Stages.connect(Settings(**addresses_of(address)))
        watch = StageWatch(clients, sleeping=("image_encoder", "prior"))
        await watch.look()
        assert watch.down == ()
        assert sorted(stages.described) == ["decoder", "prior", "text_encoder"]
        stages.described.clear()
        await watch.look()
        assert sorted(stages.described) == ["decoder", "text_encoder"]

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
