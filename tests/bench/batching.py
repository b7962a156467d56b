"""``make bench-batching``: requests that arrive at random, here and at ``diffusers`` behind ``@serve.batch``.

Both sides have the same weights, the same machine and the same requests at the same times: two sizes and
three step counts. First how long each kind takes the peer by itself, and its capacity, with as many callers
as fill its batches twice; then both at multiples of that. An objective is so many times what a request's kind
takes the peer by itself. The table goes to the terminal, and the same figures to out/bench/batching.json.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import grpc.aio
from rich.console import Console

from deploy.local.cluster import cluster_running, serve_config
from deploy.local.settings import load_stack_settings
from deploy.local.signals import stop_on_signals
from tests.bench.apart import apart
from tests.bench.batched_peer import BATCH, Kind, build
from tests.bench.machine import best_dtype
from tests.bench.overload import OPTIONS, PROMPTS
from tests.bench.peers_model import make
from tests.bench.peers_service import request, service_running
from tests.bench.results import keep, show
from unclip.v1 import image_service_pb2_grpc

KINDS = (Kind(256, 4), Kind(256, 8), Kind(256, 12), Kind(384, 6))
TIMEOUT = 120.0
SEED = 7
Draw = Callable[[str, Kind], Awaitable[Any]]


@dataclass(frozen=True)
class Row:
    """One line of the table. load: of the peer's capacity. Times in s, of pictures that were drawn.

    within_2 and so on: the share of requests that took at most so many times what the peer takes by itself.
    """

    side: str
    load: float
    asked: int
    drawn: int
    pictures_a_second: float
    p50: float
    p99: float
    within_2: float
    within_4: float
    within_8: float


def quantile(values: Sequence[float], share: float) -> float:
    """Of at least one."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


class Callers:
    """Asks one side for pictures."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._dice = random.Random(SEED)
        self.asked = 0
        self.times: list[float] = []
        self.kinds: list[Kind] = []

    async def one(self, kind: Kind | None = None) -> None:
        """One picture, of a kind by chance if none is given."""
        kind = kind or self._dice.choice(KINDS)
        prompt = self._dice.choice(PROMPTS)
        self.asked += 1
        started = time.monotonic()
        try:
            await self._draw(prompt, kind)
        except (OSError, grpc.aio.AioRpcError):
            return
        self.times.append(time.monotonic() - started)
        self.kinds.append(kind)

    def attained(self, scale: float, alone: Mapping[Kind, float]) -> float:
        """The share of those asked for that took at most so many times what their kind takes alone."""
        pairs = zip(self.kinds, self.times, strict=True)
        return round(sum(seconds <= scale * alone[kind] for kind, seconds in pairs) / self.asked, 3)

    async def closed_loop(self, callers: int, seconds: float) -> float:
        """Pictures a second that so many callers get who each wait for theirs."""
        started = time.monotonic()

        async def one_after_another() -> None:
            while time.monotonic() < started + seconds:
                await self.one()

        await asyncio.gather(*(one_after_another() for _ in range(callers)))
        return len(self.times) / (time.monotonic() - started)

    async def open_loop(self, rate: float, seconds: float) -> float:
        """The same from requests that arrive at random."""
        started = due = time.monotonic()
        async with asyncio.TaskGroup() as calls:
            while (due := due + self._dice.expovariate(rate)) < started + seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                calls.create_task(self.one())
        return len(self.times) / (time.monotonic() - started)


@dataclass(frozen=True)
class Found:
    """Of one side. capacity: pictures a second when always busy; alone: seconds of each kind by itself."""

    capacity: float
    alone: Mapping[Kind, float]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Trial:
    """What a side is asked for. peer: what was found of it before; none: this is the peer."""

    side: str
    loads: Sequence[float]
    seconds: float
    peer: Found | None = None


async def tried(draw: Draw, trial: Trial) -> Found:
    """Each kind by itself, the capacity, and each load."""
    await Callers(draw).closed_loop(2 * BATCH, trial.seconds / 4)  # to warm up
    alone = {kind: await seconds_alone(draw, kind) for kind in KINDS}
    capacity = await Callers(draw).closed_loop(2 * BATCH, trial.seconds)
    Console(stderr=True).print(f"{trial.side}: {capacity:.2f} pictures a second when always busy", alone)
    peer = trial.peer or Found(capacity, alone, ())
    rows = []
    for load in trial.loads:
        callers = Callers(draw)
        rate = await callers.open_loop(load * peer.capacity, trial.seconds)
        waits = quantile(callers.times, 0.5), quantile(callers.times, 0.99)
        attained = (callers.attained(scale, peer.alone) for scale in (2, 4, 8))
        drawn = len(callers.times)
        rows.append(Row(trial.side, load, callers.asked, drawn, round(rate, 3), *waits, *attained))
        Console(stderr=True).print(rows[-1])
    return Found(capacity, alone, rows)


async def seconds_alone(draw: Draw, kind: Kind) -> float:
    """The least of a few pictures, one after another."""
    callers = Callers(draw)
    for _ in range(3):
        await callers.one(kind)
    return round(min(callers.times), 3)


async def of_peer(address: str, trial: Trial) -> Found:
    """Over HTTP."""
    with ThreadPoolExecutor(256) as threads:

        def ask(prompt: str, kind: Kind) -> bytes:
            body = json.dumps({"prompt": prompt, **asdict(kind)}).encode()
            with urllib.request.urlopen(address, body, timeout=TIMEOUT) as answer:
                picture: bytes = answer.read()
            return picture

        async def draw(prompt: str, kind: Kind) -> bytes:
            return await asyncio.get_running_loop().run_in_executor(threads, ask, prompt, kind)

        return await tried(draw, trial)


async def of_service(address: str, trial: Trial) -> Found:
    """Over gRPC."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)

        async def draw(prompt: str, kind: Kind) -> Any:
            return await stub.Generate(request(prompt, kind), timeout=TIMEOUT)

        return await tried(draw, trial)


def peer_tried(folder: Path, trial: Trial) -> Found:
    """On a Ray of its own."""
    settings = load_stack_settings()

    def deploy(config: dict[str, Any]) -> None:
        from ray import serve

        del config
        serve.run(build(folder, best_dtype()), name="peer", route_prefix="/peer")

    with cluster_running(serve_config(("decoder",), settings), settings, deploy, cpus=2):
        found: Found = apart(of_peer, f"http://127.0.0.1:{settings.http_port}/peer", trial)
    return found


def service_tried(folder: Path, trial: Trial) -> Found:
    """The whole local stack with the imported bundle."""
    with service_running(folder) as address:
        found: Found = apart(of_service, address, trial)
    return found


@click.command()
@click.option("--seconds", type=click.FloatRange(min=10), default=120.0, show_default=True, help="A run's.")
@click.option("--loads", default="0.5,0.8,1.0,1.5", show_default=True, help="Of the peer's capacity.")
def main(seconds: float, loads: str) -> None:
    """Print a table, and write out/bench/batching.json."""
    stop_on_signals()
    shares = [float(load) for load in loads.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        peer = peer_tried(folder, Trial("diffusers, @serve.batch", shares, seconds))
        own = service_tried(folder, Trial("this service", shares, seconds, peer))
    rows = [*peer.rows, *own.rows]
    show(rows)
    ratio = own.capacity / peer.capacity
    Console().print(f"when always busy: {own.capacity:.2f} pictures a second, over the peer's: {ratio:.2f}")
    capacities = {"diffusers, @serve.batch": peer.capacity, "this service": own.capacity}
    keep("batching", capacities=capacities, rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
