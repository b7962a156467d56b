"""``make bench-peers``: this service beside ``diffusers``, with the same weights, steps, guidance and size.

``diffusers`` runs in a process of its own, with all cores, as shipped (float32) and as fast as its settings
make it here: bfloat16 where the processor has it, channels last, compiled. The service is the whole local
stack, asked over gRPC. The table goes to the terminal, and the same figures to out/bench/peers-FAMILY.json.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import grpc.aio
from rich.console import Console
from rich.table import Table

from deploy.local.signals import stop_on_signals
from tests.bench.apart import apart
from tests.bench.machine import best_dtype
from tests.bench.overload import OPTIONS
from tests.bench.peers_model import FAMILIES, Family, make
from tests.bench.peers_service import request, service_running
from tests.bench.pipelines import load
from tests.bench.rates import least_seconds
from tests.bench.results import keep
from tests.bench.trace import Kind
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

PROMPT = "a fox in the snow"
SIZES: dict[Family, int] = {"kandinsky": 512, "karlo": 256}


@dataclass(frozen=True)
class Work:
    """What every side does. batch: pictures of one call, in the second figure."""

    family: Family
    size: int
    steps: int
    batch: int
    repeats: int


@dataclass(frozen=True)
class Row:
    """Seconds of one picture, and pictures a second of a batch."""

    side: str
    seconds: float
    pictures_a_second: float


def timed(draw: Callable[[int], Any], work: Work) -> tuple[float, float]:
    """Seconds of one picture, and pictures a second of a batch, each the best, after one to warm up.

    The best, since whatever else a machine does only adds to a time.
    """
    seconds = {}
    for count, repeats in ((1, work.repeats), (work.batch, max(1, work.repeats // 2))):
        draw(count)
        seconds[count] = least_seconds(partial(draw, count), repeats)
    return seconds[1], work.batch / seconds[work.batch]


def of_diffusers(folder: Path, work: Work, dtype: str, *, channels_last: bool, compiled: bool) -> Row:
    """In this process."""
    pipelines = load(work.family, folder, dtype, channels_last=channels_last, compiled=compiled)
    kind = Kind(work.size, work.steps)
    named = ", ".join(
        [dtype, *(["channels last"] if channels_last else []), *(["compiled"] if compiled else [])]
    )
    return Row(f"diffusers, {named}", *timed(lambda count: pipelines.draw([PROMPT] * count, kind), work))


def of_service(folder: Path, work: Work) -> Row:
    """The local stack with the imported bundle."""
    with service_running(folder) as address:
        row: Row = apart(_ask, address, work)
    return row


def _ask(address: str, work: Work) -> Row:
    """In a process without Ray's driver."""
    with asyncio.Runner() as runner:
        channel = runner.run(_channel(address))
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)

        def draw(count: int) -> Any:
            return runner.run(_generate(stub, request(PROMPT, Kind(work.size, work.steps), count)))

        row = Row("this service", *timed(draw, work))
        runner.run(channel.close())
    return row


async def _channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=OPTIONS)


async def _generate(stub: Any, asked: pb.GenerateRequest) -> Any:
    return await stub.Generate(asked, timeout=600)


def rows_of(folder: Path, work: Work) -> list[Row]:
    """Every side, one after another."""
    found = []
    settings: list[dict[str, Any]] = [
        {"dtype": "float32", "channels_last": False, "compiled": False},
        {"dtype": "float32", "channels_last": True, "compiled": True},
    ]
    # Karlo's pipeline resizes in its own type, which torch does not do in bfloat16 on a CPU.
    if best_dtype() == "bfloat16" and work.family != "karlo":
        settings += [
            {"dtype": "bfloat16", "channels_last": True, "compiled": False},
            {"dtype": "bfloat16", "channels_last": True, "compiled": True},
        ]
    for chosen in settings:
        found.append(apart(of_diffusers, folder, work, **chosen))
        Console(stderr=True).print(found[-1])
    found.append(of_service(folder, work))
    return found


@click.command()
@click.option("--family", type=click.Choice(list(FAMILIES)), default="kandinsky", show_default=True)
@click.option("--size", type=int, help="Of the pictures: 512 by default; Karlo's are of 256 px.")
@click.option("--steps", default=10, show_default=True, help="Of the decoder.")
@click.option("--batch", default=8, show_default=True, help="Pictures of one call.")
@click.option("--repeats", default=3, show_default=True)
def main(family: Family, size: int | None, steps: int, batch: int, repeats: int) -> None:
    """Print a table, and write out/bench/peers-FAMILY.json."""
    stop_on_signals()
    work = Work(family, size or SIZES[family], steps, batch, repeats)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, family)
        rows = rows_of(folder, work)
    *peers, own = rows
    best = min(peer.seconds for peer in peers)
    fastest = max(peer.pictures_a_second for peer in peers)
    table = Table("side", "one picture, s", "over diffusers as shipped", f"pictures a second, of {batch}")
    for row in rows:
        share = row.seconds / peers[0].seconds
        table.add_row(row.side, f"{row.seconds:.2f}", f"{share:.2f}", f"{row.pictures_a_second:.3f}")
    console = Console(width=120)
    console.print(table)
    console.print(f"one picture over diffusers at its best: {own.seconds / best:.2f}")
    console.print(f"a batch over diffusers' best batch: {own.pictures_a_second / fastest:.2f}")
    keep(f"peers-{family}", work=asdict(work), rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
