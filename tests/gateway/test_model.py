"""Which model is served, as the gateway sees it: stages that may sleep are left asleep, and what is remembered does not go stale."""

from __future__ import annotations

from typing import Any

from gateway.model import ModelWatch
from gateway.settings import Settings
from gateway.stages import Stages
from tests.bench.no_op_stages import NoOpStages, serve_no_op_stages

STAGES = ("text_encoder", "image_encoder", "prior", "decoder")


async def test_stages_that_may_sleep_are_described_only_when_need_be() -> None:
    stages = NoOpStages()
    async with serve_no_op_stages(stages) as address:
        addresses: dict[str, Any] = {f"{stage}_address": address for stage in STAGES}
        clients = Stages.connect(Settings(**addresses))
        watch = ModelWatch(clients, sleeping=("image_encoder", "prior"))
        assert await watch.look()
        assert sorted(stages.described) == ["decoder", "prior", "text_encoder"]
        stages.described.clear()
        assert await watch.look()
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
