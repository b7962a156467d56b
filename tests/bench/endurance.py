"""``python -m tests.bench.endurance``: what callers leave behind who say nothing, stop reading, or go.

A gateway of its own, as a process, in front of stages that do as they are told. Before and after: its memory,
its descriptors and threads, and how long another caller's request takes meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import click
import grpc
import grpc.aio
import psutil
from rich.console import Console
from rich.table import Table

from deploy.local.ports import free_port
from gateway.settings import Settings
from services.bundles.bundle import ROOT
from tests.bench.machine import describe_machine
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

FOX = pb.GenerateRequest(prompt="a fox", size=64)
PROBES = 40
MIB = 2**20
console = Console()


@dataclass(frozen=True)
class State:
    """Of the gateway's process, and the median and slowest request of another caller, in ms."""

    memory: float
    descriptors: int
    threads: int
    median: float
    slowest: float


class Served:
    """A gateway's process, and its ports."""

    def __init__(self, process: subprocess.Popen[bytes], settings: Settings) -> None:
        self.port = settings.port
        self.http = int(settings.http_port or 0)
        self._process = psutil.Process(process.pid)

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own."""
        own = (("grpc.use_local_subchannel_pool", 1),)
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=own)

    async def state(self) -> State:
        """What it has now, and how it answers."""
        times = []
        async with self.channel() as channel:
            stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
            for _ in range(PROBES):
                started = time.perf_counter()
                await stub.Generate(FOX, timeout=30)
                times.append(1000 * (time.perf_counter() - started))
        for _ in range(3):  # over HTTP as well: it has connections of its own
            await _ask(self.http)
        memory = self._process.memory_info().rss / MIB
        found = self._process.num_fds(), self._process.num_threads()
        return State(memory, *found, statistics.median(times), max(times))


async def _ask(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    if b" 200 " not in answer.split(b"\r\n")[0]:
        raise click.ClickException(f"another caller is refused over HTTP: {answer[:80]!r}")


@contextlib.asynccontextmanager
async def served(stages: FakeStages) -> AsyncIterator[Served]:
    """The gateway, ready."""
    async with serve_fake_stages(stages) as address:
        settings = Settings(port=free_port(), http_port=free_port(), **addresses_of(address))
        command = [sys.executable, "-m", "gateway.server"]
        environment = {**os.environ, **settings.environment()}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
            found = Served(process, settings)
            async with found.channel() as channel:
                stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
                await stub.Generate(FOX, timeout=60, wait_for_ready=True)
            try:
                yield found
            finally:
                process.terminate()


@contextlib.asynccontextmanager
async def silent(port: int, count: int) -> AsyncIterator[None]:
    """So many connections that say nothing."""
    opened: list[Any] = []
    for _ in range(0, count, 250):
        made = [asyncio.open_connection("127.0.0.1", port) for _ in range(min(250, count - len(opened)))]
        opened += await asyncio.gather(*made)
    try:
        yield
    finally:
        for _, writer in opened:
            writer.close()
        await asyncio.sleep(1)


@contextlib.asynccontextmanager
async def unread(gateway: Served, count: int) -> AsyncIterator[None]:
    """So many streams whose reader stops after the first message."""
    options = pb.SamplingOptions(preview_interval=1, decoder_steps=100)
    request = pb.StreamRequest(generate=pb.GenerateRequest(prompt="a fox", size=64, options=options))
    async with gateway.channel() as channel:
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
        calls = [stub.Stream(request, timeout=60) for _ in range(count)]
        with contextlib.suppress(grpc.aio.AioRpcError):
            await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
        yield
        for call in calls:
            call.cancel()


async def cancelled(gateway: Served, count: int) -> None:
    """So many streams that their callers leave."""
    request = pb.StreamRequest(generate=FOX)
    async with gateway.channel() as channel:
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
        for _ in range(0, count, 50):
            calls = [stub.Stream(request) for _ in range(50)]
            await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
            for call in calls:
                call.cancel()


async def measure(connections: int, streams: int) -> dict[str, State]:
    """The states before, during and after each kind of caller."""
    found: dict[str, State] = {}
    async with served(FakeStages()) as gateway:
        await cancelled(gateway, 200)  # what is made once is made
        found["before"] = await gateway.state()
        for name, port in (("gRPC", gateway.port), ("HTTP", gateway.http)):
            async with silent(port, connections):
                found[f"{connections} silent connections, {name}"] = await gateway.state()
            found[f"after them, {name}"] = await gateway.state()
        async with unread(gateway, 100):
            found["100 streams that nobody reads"] = await gateway.state()
        found["after them"] = await gateway.state()
        await cancelled(gateway, streams)
        found[f"after {streams} cancelled streams"] = await gateway.state()
    return found


@click.command()
@click.option("--connections", default=10_000, show_default=True)
@click.option("--streams", default=1_000, show_default=True)
def main(connections: int, streams: int) -> None:
    """Print what the gateway has, before, during and after."""
    console.print(describe_machine())
    table = Table("", "memory, MiB", "descriptors", "threads", "request p50, ms", "slowest, ms")
    for name, state in asyncio.run(measure(connections, streams)).items():
        table.add_row(
            name,
            f"{state.memory:.0f}",
            str(state.descriptors),
            str(state.threads),
            f"{state.median:.1f}",
            f"{state.slowest:.0f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
