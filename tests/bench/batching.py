"""``make bench-batching``: requests that arrive at random, here and at ``diffusers`` behind ``@serve.batch``.

Both sides have the same weights, the same machine and the same requests at the same times: pictures from
words and from pictures, of two sizes and several step counts. First how long each kind takes the peer by
itself, and its capacity, with as many callers as fill its batches twice; then both replay the same traces at
multiples of that. An objective is so many times what a request's kind takes the peer by itself. The table
goes to the terminal; out/bench has the figures (batching.json), the traces, and a plot of attainment.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import math
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import grpc.aio
from PIL import Image
from rich.console import Console

from deploy.local.cluster import cluster_running, serve_config
from deploy.local.settings import load_stack_settings
from deploy.local.signals import stop_on_signals
from services.bundles.bundle import ROOT
from tests.bench import trace
from tests.bench.apart import apart
from tests.bench.attainment import SCALES, Row, plot, quantile
from tests.bench.batched_peer import BATCH, build
from tests.bench.machine import best_dtype
from tests.bench.overload import OPTIONS
from tests.bench.peers_model import make
from tests.bench.peers_service import request, service_running, variation
from tests.bench.results import keep, show
from tests.bench.trace import KINDS, Arrival, Kind
from unclip.v1 import image_service_pb2_grpc

TIMEOUT = 240.0
SEED = 7
Draw = Callable[[Arrival], Awaitable[Any]]


class Callers:
    """Asks one side for pictures, and keeps how long those that came have taken."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.asked = 0
        self.times: list[tuple[Kind, float]] = []

    async def one(self, arrival: Arrival) -> None:
        """One picture."""
        self.asked += 1
        started = time.monotonic()
        try:
            await self._draw(arrival)
        except (OSError, grpc.aio.AioRpcError):
            return
        self.times.append((arrival.kind, time.monotonic() - started))

    def attained(self, scale: float, alone: Mapping[Kind, float]) -> float:
        """The share of those asked for that took at most so many times what their kind takes alone."""
        met = sum(seconds <= scale * alone[kind] for kind, seconds in self.times)
        return round(met / max(self.asked, 1), 3)

    async def closed_loop(self, callers: int, seconds: float) -> float:
        """Pictures a second that so many callers get who each wait for theirs."""
        started = time.monotonic()
        arrivals = trace.endless(1.0, SEED)

        async def one_after_another() -> None:
            while time.monotonic() < started + seconds:
                await self.one(next(arrivals))

        await asyncio.gather(*(one_after_another() for _ in range(callers)))
        return len(self.times) / (time.monotonic() - started)

    async def replay(self, arrivals: Sequence[Arrival]) -> float:
        """The same from requests that come when they come."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as calls:
            for arrival in arrivals:
                await asyncio.sleep(max(0.0, started + arrival.at - time.monotonic()))
                calls.create_task(self.one(arrival))
        return len(self.times) / (time.monotonic() - started)


@dataclass(frozen=True)
class Found:
    """Of one side. capacity: pictures a second when always busy; alone: seconds of each kind by itself."""

    capacity: float
    alone: Mapping[Kind, float]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Trial:
    """What a side is asked for. given: a trace; none: arrivals at random, for so many seconds at each load.

    peer: what was found of it before; none: this is the peer.
    """

    side: str
    loads: Sequence[float]
    seconds: float
    given: Sequence[Arrival] = ()
    peer: Found | None = None

    @property
    def kinds(self) -> list[Kind]:
        """All that are asked for."""
        return list(dict.fromkeys((*KINDS, *(arrival.kind for arrival in self.given))))

    def arrivals(self, rate: float) -> list[Arrival]:
        """The trace of a load, which both sides replay."""
        return trace.at_rate(self.given, rate) if self.given else trace.poisson(rate, self.seconds, SEED)


async def tried(draw: Draw, trial: Trial) -> Found:
    """Each kind by itself, the capacity, and each load."""
    await Callers(draw).closed_loop(2 * BATCH, trial.seconds / 4)  # to warm up
    alone = {kind: await seconds_alone(draw, kind) for kind in trial.kinds}
    capacity = await Callers(draw).closed_loop(2 * BATCH, trial.seconds)
    console = Console(stderr=True)
    console.print(f"{trial.side}: {capacity:.2f} pictures a second when always busy", alone)
    peer = trial.peer or Found(capacity, alone, ())
    rows = []
    for load in trial.loads:
        callers = Callers(draw)
        arrivals = trial.arrivals(load * peer.capacity)
        trace.write(ROOT / f"out/bench/trace-{load}.jsonl", arrivals)
        rate = await callers.replay(arrivals)
        times = [seconds for _, seconds in callers.times]
        attained = (callers.attained(scale, peer.alone) for scale in SCALES)
        waits = quantile(times, 0.5), quantile(times, 0.99)
        rows.append(Row(trial.side, load, callers.asked, len(times), round(rate, 3), *waits, *attained))
        console.print(rows[-1])
    return Found(capacity, alone, rows)


async def seconds_alone(draw: Draw, kind: Kind) -> float:
    """The least of a few pictures, one after another."""
    callers = Callers(draw)
    for _ in range(3):
        await callers.one(Arrival(0.0, "a fox in the snow", kind))
    return round(min((seconds for _, seconds in callers.times), default=math.inf), 3)


def pictures() -> Iterator[bytes]:
    """Files to vary, each another."""
    for i in itertools.count():
        file = io.BytesIO()
        Image.linear_gradient("L").rotate(i % 360).convert("RGB").save(file, "PNG")
        yield file.getvalue()


async def of_peer(address: str, trial: Trial) -> Found:
    """Over HTTP."""
    files = pictures()
    with ThreadPoolExecutor(256) as threads:

        def ask(prompt: str, kind: Kind, picture: bytes) -> bytes:
            given = {"prompt": prompt, "picture": base64.b64encode(picture).decode()}
            body = json.dumps({**given, **asdict(kind)}).encode()
            with urllib.request.urlopen(address, body, timeout=TIMEOUT) as answer:
                file: bytes = answer.read()
            return file

        async def draw(arrival: Arrival) -> bytes:
            picture = next(files) if arrival.kind.flow == "vary" else b""
            run = asyncio.get_running_loop().run_in_executor
            return await run(threads, ask, arrival.prompt, arrival.kind, picture)

        return await tried(draw, trial)


async def of_service(address: str, trial: Trial) -> Found:
    """Over gRPC."""
    files = pictures()
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)

        async def draw(arrival: Arrival) -> Any:
            if arrival.kind.flow == "vary":
                return await stub.Vary(variation(next(files), arrival.kind), timeout=TIMEOUT)
            return await stub.Generate(request(arrival.prompt, arrival.kind), timeout=TIMEOUT)

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
@click.option(
    "--trace",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Arrivals to replay, as out/bench/trace-LOAD.jsonl has them, faster or slower for each load.",
)
def main(seconds: float, loads: str, file: Path | None) -> None:
    """Print a table, and write out/bench/batching.json, the traces, and attainment.png."""
    stop_on_signals()
    shares = [float(load) for load in loads.split(",")]
    try:
        given = trace.read(file) if file else ()
    except (ValueError, TypeError, KeyError) as error:
        raise click.BadParameter(f"is no trace: {error}", param_hint="--trace") from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        peer = peer_tried(folder, Trial("diffusers, @serve.batch", shares, seconds, given))
        own = service_tried(folder, Trial("this service", shares, seconds, given, peer))
    rows = [*peer.rows, *own.rows]
    show(rows)
    ratio = own.capacity / peer.capacity
    Console().print(f"when always busy: {own.capacity:.2f} pictures a second, over the peer's: {ratio:.2f}")
    capacities = {"diffusers, @serve.batch": peer.capacity, "this service": own.capacity}
    plot(rows, peer.capacity, ROOT / "out/bench/attainment.png")
    alone = [{**asdict(kind), "seconds": seconds} for kind, seconds in peer.alone.items()]
    keep("batching", capacities=capacities, alone=alone, rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
