"""``make simulate``: how many replicas a rate of pictures needs, and what becomes of it in bad times."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from typing import get_args

import click
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deploy.simulation.arrivals import Trace
from deploy.simulation.fleet import Routing
from deploy.simulation.profile import PROFILES, Profile
from deploy.simulation.scenario import Fault, Report, Scenario, run
from deploy.simulation.sizing import GOAL, sized
from services.bundles.bundle import ROOT

GATEWAY_RATE = 50.0  # pictures a second that one gateway is given
TRACES: tuple[Trace, ...] = get_args(Trace)
FAULTS: tuple[Fault, ...] = get_args(Fault)
ROUTINGS: tuple[Routing, ...] = get_args(Routing)
PERCENT = ("goodput", "refused", "refused_late", "missed", "failed", "busy_prior", "busy_decoder")


def variants(base: Scenario, in_flight: int) -> list[tuple[str, Scenario]]:
    """The traces, and the faults under a steady one."""
    traces = [(trace, replace(base, trace=trace)) for trace in TRACES]
    bounded = replace(base, trace="flood", in_flight=in_flight)
    faults = [(fault, replace(base, fault=fault)) for fault in FAULTS if fault != "none"]
    return [*traces, (f"flood, at most {in_flight} at a time", bounded), *faults]


def table_of(rows: Sequence[tuple[str, Report]]) -> Table:
    """A line for each."""
    names = list(asdict(rows[0][1]))
    table = Table("what", *(name.replace("_", " ") for name in names))
    for title, report in rows:
        values = asdict(report)
        table.add_row(title, *(_shown(name, values[name]) for name in names))
    return table


def _shown(name: str, value: float) -> str:
    if name == "asked":
        return str(value)
    return f"{100 * value:.1f} %" if name in PERCENT else f"{value:.2f}"


@click.command()
@click.option(
    "--profile", default="two-cores", show_default=True, help="A file, or one of deploy/simulation's."
)
@click.option("--rate", default=5.0, show_default=True, help="Pictures a second.")
@click.option("--deadline", default=30.0, show_default=True, help="Seconds that a caller waits.")
@click.option("--goal", default=GOAL, show_default=True, help="Share of the pictures that are in time.")
@click.option("--decoders", type=int, help="Replicas; by default as many as it takes.")
@click.option("--priors", type=int, help="Replicas; by default as many as it takes.")
@click.option("--gateways", type=int, help=f"By default one for {GATEWAY_RATE:.0f} pictures a second.")
@click.option("--seconds", default=300.0, show_default=True, help="Simulated.")
@click.option("--routing", type=click.Choice(ROUTINGS), default=ROUTINGS[0], show_default=True)
@click.option("--in-flight", default=4, show_default=True, help="A tenant's bound, in the bounded flood.")
@click.option("--seed", default=0, show_default=True)
def main(
    profile: str,
    rate: float,
    deadline: float,
    goal: float,
    decoders: int | None,
    priors: int | None,
    gateways: int | None,
    seconds: float,
    routing: Routing,
    in_flight: int,
    seed: int,
) -> None:
    """Size a cluster, and show what becomes of its callers."""
    console = Console(width=170)
    try:
        device = Profile.load(profile)
    except (OSError, ValidationError) as error:
        known = ", ".join(file.stem for file in PROFILES.glob("*.json"))
        raise click.ClickException(f"--profile {profile}: {error} (there are: {known})") from None
    count = gateways or math.ceil(rate / GATEWAY_RATE)
    base = Scenario(
        device, rate, deadline, priors or 1, decoders or 1, count, seconds, routing=routing, seed=seed
    )
    if (decoders is None) != (priors is None):
        raise click.UsageError("--decoders and --priors go together: both, or neither")
    if decoders is None:
        try:
            base, _ = sized(base, goal)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    console.print(
        f"{rate:g} pictures a second, {deadline:g} s each, on {device.device}, {device.model}: "
        f"[bold]{base.decoders} decoders, {base.priors} priors, {base.gateways} gateways[/bold]"
    )
    titles, scenarios = zip(*variants(base, in_flight), strict=True)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as processes:
        reports = processes.map(run, scenarios)
        rows = list(zip(titles, track(reports, "simulating", len(titles)), strict=True))
    console.print(table_of(rows))
    target = ROOT / "out/bench/simulation.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    chosen = {"decoders": base.decoders, "priors": base.priors, "gateways": base.gateways}
    report = {"profile": device.model_dump(mode="json"), **chosen, "rows": {t: asdict(r) for t, r in rows}}
    target.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
