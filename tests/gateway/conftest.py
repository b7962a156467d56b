"""A real gateway on loopback, in front of stages that do as they are told.

No Ray, no model: milliseconds a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from deploy.local.ports import free_port
from gateway.server import Gateway
from gateway.settings import Settings
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

FOX = pb.GenerateRequest(prompt="a fox")
SERVING = health_pb2.HealthCheckResponse.SERVING
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass(frozen=True)
class Front:
    """The gateway's stub, its channel, the gateway itself and the stages behind it."""

    images: Any
    channel: grpc.aio.Channel
    gateway: Gateway
    stages: FakeStages


@contextlib.asynccontextmanager
async def fronting(stages: FakeStages, **settings: Any) -> AsyncIterator[Front]:
    """A gateway with these settings in front of these stages."""
    async with serve_fake_stages(stages) as address:
        gateway = Gateway(Settings(port=0, **{**addresses_of(address), **settings}))
        await gateway.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=OPTIONS) as channel:
                stub = image_service_pb2_grpc.ImageServiceStub(channel)
                yield Front(stub, channel, gateway, stages)
        finally:
            await gateway.stop(0)


@pytest.fixture(scope="module")
async def front() -> AsyncIterator[Front]:
    """One with default settings, for tests that change nothing."""
    async with fronting(FakeStages()) as found:
        yield found


def png_of(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """A picture's file."""
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, kind, **options)
    return stream.getvalue()


def pixels(data: bytes, mode: str = "RGB") -> np.ndarray:
    """A file's pixels."""
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call ends in."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value


async def health(channel: grpc.aio.Channel, service: str = "") -> Any:
    """What the health service says."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2)).status


async def until(condition: Any, seconds: float = 5.0) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Redis:
    """A Redis of a test's own."""

    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """It dies."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """One that listens, if there is any here."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not here")
    port = free_port()
    command = [program, "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Redis(f"redis://127.0.0.1:{port}", process)
        process.kill()
