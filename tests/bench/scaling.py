"""``python -m tests.bench.scaling``: many replicas that only wait, and which of them is asked.

Throughput from one replica to sixteen, over as many times that of one; and how long requests take that arrive
at random at 0.9 of what the replicas can do, by who is asked: Serve's choice, and ours. The table goes to the
terminal, and the same figures to out/bench/scaling.json.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
import grpc.aio
from rich.console import Console

from deploy.local.cluster import cluster_running, serve_config
from deploy.local.settings import load_stack_settings
from deploy.local.signals import stop_on_signals
from services.wire.stages import APPLICATION_KEY
from tests.bench.apart import apart
from tests.bench.overload import quantile
from tests.bench.results import keep, show
from unclip.internal.v1 import decoder_service_pb2, decoder_service_pb2_grpc, sampling_pb2

STEPS = 10
STEP_SECONDS = 0.1
LOAD = 0.9
METADATA = ((APPLICATION_KEY, "decoder"),)
ROUTERS = {
    "Serve's": "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter",
    "ours": "services.serving.routing:FewestRequests",
}


@dataclass(frozen=True)
class Row:
    """One line of the table. linear: throughput over that of full replicas. Times in ms."""

    replicas: int
    router: str
    linear: float
    p50: float
    p99: float


class Callers:
    """Asks the decoder for pictures that take a second."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.times: list[float] = []

    async def draw(self) -> None:
        """One picture."""
        started = time.monotonic()
        task = sampling_pb2.SamplingTask(steps=STEPS)
        request = decoder_service_pb2.SampleDecoderRequest(task=task)
        async for _ in self._stub.SampleDecoder(request, metadata=METADATA, timeout=120):
            pass
        self.times.append(time.monotonic() - started)

    async def closed_loop(self, callers: int, seconds: float) -> float:
        """Pictures a second that so many callers get who each wait for theirs."""
        until = time.monotonic() + seconds

        async def one_after_another() -> None:
            while time.monotonic() < until:
                await self.draw()

        started = time.monotonic()
        await asyncio.gather(*(one_after_another() for _ in range(callers)))
        return len(self.times) / (time.monotonic() - started)

    async def open_loop(self, rate: float, seconds: float) -> None:
        """Requests that arrive at random, the same ones each time."""
        dice = random.Random(7)
        due = time.monotonic()
        until = due + seconds
        async with asyncio.TaskGroup() as calls:
            while due < until:
                due += dice.expovariate(rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                calls.create_task(self.draw())


async def measure(address: str, replicas: int, seconds: float) -> tuple[float, list[float]]:
    """The throughput with all replicas busy, and the times of requests that arrive at random."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = decoder_service_pb2_grpc.DecoderServiceStub(channel)
        await Callers(stub).closed_loop(2 * replicas, 5.0)
        throughput = await Callers(stub).closed_loop(3 * replicas, seconds)
        arriving = Callers(stub)
        await arriving.open_loop(LOAD * replicas / STEPS / STEP_SECONDS, 3 * seconds)
    return throughput, arriving.times


def measured(replicas: int, router: str, seconds: float) -> Row:
    """With so many replicas, asked by this router."""
    settings = load_stack_settings()
    config = serve_config(("decoder",), settings)
    application = config["applications"][0]
    application |= {"import_path": "tests.fakes.waiting:build", "args": {"seconds": STEP_SECONDS}}
    deployment = application["deployments"][0]
    deployment |= {
        "num_replicas": replicas,
        "ray_actor_options": {"num_cpus": 0.1},
        "request_router_config": {"request_router_class": ROUTERS[router]},
    }
    del deployment["autoscaling_config"]
    with cluster_running(config, settings, cpus=4) as address:
        throughput, times = apart(measure, address, replicas, seconds)
    linear = throughput * STEPS * STEP_SECONDS / replicas
    return Row(replicas, router, round(linear, 3), quantile(times, 0.5), quantile(times, 0.99))


def rows_of(counts: Sequence[int], seconds: float) -> list[Row]:
    """A row for each number of replicas and router."""
    rows = []
    for count in counts:
        for router in ROUTERS if count > 2 else ("ours",):
            rows.append(measured(count, router, seconds))
            Console(stderr=True).print(rows[-1])
    return rows


@click.command()
@click.option("--replicas", default="1,4,16", show_default=True)
@click.option("--seconds", type=click.FloatRange(min=5), default=20.0, show_default=True, help="Of each run.")
def main(replicas: str, seconds: float) -> None:
    """Print a table, and write out/bench/scaling.json."""
    stop_on_signals()
    rows = rows_of([int(count) for count in replicas.split(",")], seconds)
    show(rows)
    keep("scaling", rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
