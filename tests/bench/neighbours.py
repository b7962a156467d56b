"""``python -m tests.bench.neighbours``: what one tenant feels of another that asks for ten times its quota.

A quiet tenant's requests arrive at random, the same ones each time, while a noisy one asks for nothing, for
its quota, and for ten times that. The table goes to the terminal, and the same figures to
out/bench/neighbours.json.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import grpc
import grpc.aio

from deploy.local.cluster import stages_running
from deploy.local.gateway import gateway_running
from deploy.local.ports import free_port
from deploy.local.settings import load_stack_settings
from deploy.local.signals import stop_on_signals
from gateway.environment import load_settings
from gateway.quota import Quota
from gateway.tokens import new_token, write_tokens
from tests.bench.apart import apart
from tests.bench.overload import OPTIONS, quantile
from tests.bench.results import keep, show
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

PEAK_SECONDS = 20.0
QUIET_SHARE = 0.3  # of the peak
NOISY_SHARE = 0.2  # of the peak: the noisy tenant's quota
LOADS = (0, 1, 10)  # times the noisy tenant's quota
FEW_STEPS = pb.SamplingOptions(prior_steps=4, decoder_steps=4)


@dataclass
class Tenant:
    """Who asks, and how its requests end. times: of those that were answered, in seconds."""

    stub: Any
    secret: str
    times: list[float] = field(default_factory=list)
    refused: int = 0

    async def draw(self, seed: int) -> None:
        """Ask for one small picture."""
        options = pb.SamplingOptions(seed=seed)
        options.MergeFrom(FEW_STEPS)
        request = pb.GenerateRequest(prompt="a fox in the snow", size=64, options=options)
        metadata = (("authorization", f"Bearer {self.secret}"),)
        started = time.monotonic()
        try:
            await self.stub.Generate(request, metadata=metadata, timeout=60)
            self.times.append(time.monotonic() - started)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            self.refused += 1

    async def arrive(self, gaps: Sequence[float]) -> None:
        """Requests, so many seconds after one another, that wait for no answer."""
        due = time.monotonic()
        async with asyncio.TaskGroup() as calls:
            for seed, gap in enumerate(gaps):
                due += gap
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                calls.create_task(self.draw(seed))


@dataclass(frozen=True)
class Row:
    """One line of the table. in_flight: the noisy tenant's bound; 0: none. noise: times its quota. In ms."""

    in_flight: int
    noise: float
    quiet: int
    p50: float
    p99: float
    noisy: int
    refused: int


async def peak(tenant: Tenant) -> float:
    """Pictures a second that six callers get who each wait for theirs."""
    until = time.monotonic() + PEAK_SECONDS

    async def one_after_another() -> None:
        while time.monotonic() < until:
            await tenant.draw(0)

    await asyncio.gather(*(one_after_another() for _ in range(6)))
    return len(tenant.times) / PEAK_SECONDS


async def measure(
    address: str, secrets: tuple[str, str], rates: tuple[float, float], seconds: float
) -> list[Any]:
    """For each load of the noisy tenant: the quiet one's times, and how the noisy one fared."""
    rows = []
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        stub = image_service_pb2_grpc.ImageServiceStub(channel)
        for noise in LOADS:
            quiet, noisy = (Tenant(stub, secret) for secret in secrets)
            dice = random.Random(7)
            gaps = [dice.expovariate(rates[0]) for _ in range(round(rates[0] * seconds))]
            many = [1 / (noise * rates[1])] * round(noise * rates[1] * seconds) if noise else []
            await asyncio.gather(quiet.arrive(gaps), noisy.arrive(many))
            rows.append((noise, quiet.times, len(noisy.times), noisy.refused))
            await asyncio.sleep(60 - time.time() % 60)  # so that each begins with a new minute
    return rows


async def _peak_at(address: str, secret: str) -> float:
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        return await peak(Tenant(image_service_pb2_grpc.ImageServiceStub(channel), secret))


def measured(stages: str, seconds: float, in_flights: Sequence[int]) -> tuple[float, list[Row]]:
    """The peak, and a row for each bound and load, by a gateway of its own for each bound."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.json"
        made = [new_token(name, name, ("generate",), None) for name in ("quiet", "noisy")]
        write_tokens(path, [token for token, _ in made])
        secrets = (made[0][1], made[1][1])
        chosen = {"tokens": str(path)}
        with gateway_running(
            stages, load_settings().model_copy(update={"port": free_port(), **chosen})
        ) as at:
            most = apart(_peak_at, at, secrets[0])
        for in_flight in in_flights:
            rate = round(60 * NOISY_SHARE * most) / 60
            quotas = {"noisy": Quota(pictures=round(60 * rate), in_flight=in_flight or None)}
            settings = load_settings().model_copy(update={"port": free_port(), "quotas": quotas, **chosen})
            with gateway_running(stages, settings) as at:
                found = apart(measure, at, secrets, (QUIET_SHARE * most, rate), seconds)
            for noise, times, done, refused in found:
                p50, p99 = (quantile(times, share) for share in (0.5, 0.99))
                rows.append(Row(in_flight, noise, len(times), p50, p99, done, refused))
    return most, rows


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(min=5), default=170.0, show_default=True, help="Of each run."
)
@click.option("--in-flight", default="2,0", show_default=True, help="The noisy one's bounds; 0: none.")
def main(seconds: float, in_flight: str) -> None:
    """Print a table, and write out/bench/neighbours.json."""
    stop_on_signals()
    with stages_running(settings=load_stack_settings()) as stages:
        most, rows = measured(stages, seconds, [int(bound) for bound in in_flight.split(",")])
    show(rows, f"peak {most:.1f} a second")
    keep("neighbours", peak=most, rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
