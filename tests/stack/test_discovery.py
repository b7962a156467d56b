"""Health, reflection, a stage that is down, and ports in use."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.local.ports import free_port
from gateway.server import Gateway
from gateway.settings import Settings
from services.bundles.bundle import ROOT
from tests.stack.conftest import Addresses, quick
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING


async def test_health_is_serving_when_all_stages_answer(stack: Addresses) -> None:
    async with grpc.aio.insecure_channel(stack.gateway) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "unclip.v1.ImageService"):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING


async def test_reflection_lists_the_services_and_their_files(stack: Addresses) -> None:
    async with grpc.aio.insecure_channel(stack.gateway) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="unclip.v1.ImageService"),
        ]
        listed, described = [r async for r in stub.ServerReflectionInfo(iter(requests))]
    names = {service.name for service in listed.list_services_response.service}
    assert {"unclip.v1.ImageService", "grpc.health.v1.Health"} <= names
    assert described.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("stage", ["text_encoder", "prior", "decoder"])
async def test_a_stage_that_is_down_is_named(stack: Addresses, stage: str) -> None:
    addresses: dict[str, Any] = {
        f"{name}_address": stack.stages for name in ("text_encoder", "image_encoder", "prior", "decoder")
    }
    up = Gateway(Settings(port=0, **addresses))
    down = Gateway(
        Settings(port=0, look_interval=0.2, **{**addresses, f"{stage}_address": f"127.0.0.1:{free_port()}"})
    )
    await up.start()
    await down.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{down.port}") as channel:
            stub = image_service_pb2_grpc.ImageServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await stub.Generate(pb.GenerateRequest(prompt="a fox", options=quick()))
            assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
            assert stage.replace("_", " ") in (failure.value.details() or "")
            assert "127.0.0.1" not in (failure.value.details() or "")
    finally:
        await asyncio.gather(up.stop(0), down.stop(0))


def test_a_port_in_use_is_named_with_its_setting(stack: Addresses) -> None:
    port = stack.gateway.rpartition(":")[2]
    for module in ("gateway.server", "deploy.local"):
        result = subprocess.run(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env={**os.environ, "UNCLIP_PORT": port},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode != 0
        assert port in result.stderr
        assert "UNCLIP_PORT" in result.stderr
        assert "Traceback" not in result.stderr
