"""``make bench``: what a request costs on the local stack, and how that grows.

Time per stage, and what the gateway and the hops add, by stages that do nothing; what a picture moves between
processes; how soon a first step comes, and a place is free; time and memory by pictures, size, steps, queue.
Prints tables, and writes the same figures to out/bench/request.json, and growth.png beside it.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from deploy.local.cluster import stages_running
from deploy.local.gateway import gateway_running
from deploy.local.settings import load_stack_settings
from gateway.environment import load_settings
from services.bundles.bundle import ROOT
from tests.bench.apart import apart
from tests.bench.growth import Point, growth, plot
from tests.bench.request import generate, overhead, plain
from tests.bench.results import keep, show
from tests.bench.traffic import traffic
from tests.bench.waits import Waits, waits


def summary(values: Sequence[float]) -> dict[str, float]:
    """Milliseconds: the middle, the best and the worst."""
    ordered = sorted(1000 * v for v in values)
    return {
        "median_ms": round(statistics.median(ordered), 2),
        "min_ms": round(ordered[0], 2),
        "max_ms": round(ordered[-1], 2),
    }


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=10, show_default=True)
def main(repeats: int) -> None:
    """Print tables, and write out/bench/request.json."""
    no_op = asyncio.run(overhead(repeats * 10))
    alone = asyncio.run(plain(repeats * 10))
    settings = load_stack_settings()
    with stages_running(settings=settings) as stages, gateway_running(stages, load_settings()) as address:
        one, four = (apart(generate, address, repeats, n) for n in (1, 4))
        moved = apart(traffic, address)
        waited: Waits = apart(waits, address, stages)
        points: list[Point] = apart(growth, address)
    groups = {"one picture": one, "four pictures": four, "no-op stages": no_op, "grpc.aio alone": alone}
    report = {
        name: {key: summary(values) for key, values in figures.items()} for name, figures in groups.items()
    }
    table = Table("what", "stage", "median ms", "min ms", "max ms")
    for name, figures in report.items():
        for stage, figure in figures.items():
            table.add_row(name, stage, *(f"{figure[k]:.1f}" for k in ("median_ms", "min_ms", "max_ms")))
    share = report["no-op stages"]["request"]["median_ms"] / report["one picture"]["request"]["median_ms"]
    Console().print(table)
    click.echo(f"gateway and hops: {100 * share:.1f} % of a one-picture request")
    click.echo(f"between processes: {moved} times the picture's own bytes")
    show([waited], "the decoder, busy: seconds of a step; a first step, and a freed place, in steps")
    show(points, "growth; MiB of the decoder's process")
    plot(points, ROOT / "out/bench/growth.png")
    keep(
        "request",
        repeats=repeats,
        overhead_share=share,
        figures=report,
        traffic=moved,
        waits=asdict(waited),
        growth=[asdict(point) for point in points],
    )


if __name__ == "__main__":
    main()
