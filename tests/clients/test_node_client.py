"""The contract as another language reads it: Node.js, with gRPC's own package."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import google.rpc
import grpc

from services.bundles.bundle import ROOT
from services.wire.errors import Overloaded
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import fronting


async def test_node_draws_streams_and_reads_errors() -> None:
    shared = str(Path(next(iter(google.rpc.__path__))).parents[1])  # where google/rpc/*.proto are
    stages = FakeStages(refusals={99: Overloaded("full", 3)})
    async with fronting(stages) as front:
        process = await asyncio.create_subprocess_exec(
            "node",
            str(ROOT / "tests/clients/walk.mjs"),
            f"127.0.0.1:{front.gateway.port}",
            str(ROOT / "protos"),
            shared,
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    found = json.loads(told)
    assert found["seeds"] == ["7", "8"]
    assert found["events"][-1] == "picture"
    assert "progress" in found["events"]
    assert found["code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "prompt" in found["fields"]
    assert found["retryAfter"] == 3
