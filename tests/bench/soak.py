"""``make soak``: a mixed load on the local stack for an hour, and what each of its processes holds meanwhile.

Memory, descriptors and threads of every process of the stack, and Ray's object store, are looked at now and
then, and drawn into out/bench/soak.png. After the warm-up a line is fitted to the floors of the memory of
each: its slope, in per cent an hour of what the process had then, is what a leak would show.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from deploy.local.cluster import stages_running
from deploy.local.gateway import gateway_running
from deploy.local.ports import free_port
from deploy.local.settings import load_stack_settings
from deploy.local.signals import stop_on_signals
from gateway.environment import load_settings
from services.bundles.bundle import ROOT
from tests.bench.machine import describe_machine
from tests.bench.results import keep

LOOK_SECONDS = 5.0
MIB = 2**20
STRETCHES = 10
# What processes are called, by what their command lines hold; the first that fits.
NAMES = {
    "ServeReplica:decoder": "decoder",
    "ServeReplica:prior": "prior",
    "ServeReplica:text_encoder": "text encoder",
    "ServeReplica:image_encoder": "image encoder",
    "ServeController": "controller",
    "ProxyActor": "proxy",
    "gateway.server": "gateway",
    "gcs_server": "GCS",
    "raylet": "raylet",
}
console = Console()


@dataclass
class Series:
    """Of one process: seconds since the start, MiB, descriptors, threads."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def add(self, seconds: float, held: int, descriptors: int, threads: int) -> None:
        """Note what was seen. held: in bytes."""
        self.seconds.append(seconds)
        self.memory.append(held / MIB)
        self.descriptors.append(descriptors)
        self.threads.append(threads)

    def slope(self, warm_up: float) -> float:
        """Per cent an hour of what it had when it was warm; 0 for one that was seen too little.

        Of the least in each of ten stretches of time: between two collections memory rises and falls.
        """
        kept = [(t, m) for t, m in zip(self.seconds, self.memory, strict=True) if t >= warm_up]
        if len(kept) < 2 * STRETCHES:
            return 0.0
        stretches = np.array_split(np.array(kept), STRETCHES)
        times = [stretch[:, 0].mean() for stretch in stretches]
        floors = [stretch[:, 1].min() for stretch in stretches]
        return float(100 * 3600 * np.polyfit(times, floors, 1)[0] / floors[0])


def look(series: dict[str, Series], started: float) -> None:
    """Note what every process of the stack has now."""
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline()) or process.name()
            name = next((name for part, name in NAMES.items() if part in title), None)
            if name is None:
                continue
            memory, counts = process.memory_info(), (process.num_fds(), process.num_threads())
            seconds = time.monotonic() - started
            series[name].add(seconds, memory.rss, *counts)
            if name == "raylet":  # what it shares is what lies in Ray's object store, and its libraries
                series["object store"].add(seconds, memory.shared, 0, 0)
        except psutil.Error:
            continue  # it has ended


def watch(series: dict[str, Series], started: float, stopped: threading.Event) -> None:
    """Look until told to stop."""
    while not stopped.wait(LOOK_SECONDS):
        look(series, started)


def draw(series: dict[str, Series], path: Path) -> None:
    """All of it over time."""
    figure, axes = plt.subplots(3, 1, figsize=(10, 12), sharex=True)
    for name, own in sorted(series.items()):
        minutes = np.array(own.seconds) / 60
        for axis, values in zip(axes, (own.memory, own.descriptors, own.threads), strict=True):
            axis.plot(minutes, values, label=name)
    for axis, title in zip(axes, ("memory, MiB", "descriptors", "threads"), strict=True):
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0)
    axes[0].legend(fontsize="small", ncols=3)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


@click.command()
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--warm-up", default=5.0, show_default=True, help="Minutes that the slopes leave out.")
@click.option("--callers", default=3, show_default=True)
def main(minutes: float, warm_up: float, callers: int) -> None:
    """Load the stack, and show what its processes held."""
    stop_on_signals()
    series: dict[str, Series] = defaultdict(Series)
    settings = load_stack_settings()
    gateway = load_settings().model_copy(update={"port": free_port()})
    load = [sys.executable, "-m", "deploy.monitoring.load", "--seconds", str(round(60 * minutes))]
    with stages_running(settings=settings) as stages, gateway_running(stages, gateway) as address:
        started = time.monotonic()
        stopped = threading.Event()
        watcher = threading.Thread(target=watch, args=(series, started, stopped), daemon=True)
        watcher.start()
        command = [*load, "--callers", str(callers), "--address", address]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        stopped.set()
        watcher.join()
    table = Table("process", "MiB when warm", "MiB at the end", "slope, %/h", "descriptors", "threads")
    found = {}
    for name, own in sorted(series.items()):
        warm = next((m for t, m in zip(own.seconds, own.memory, strict=True) if t >= 60 * warm_up), 0.0)
        found[name] = own.slope(60 * warm_up)
        counts = (f"{min(v)} to {max(v)}" for v in (own.descriptors, own.threads))
        table.add_row(name, f"{warm:.0f}", f"{own.memory[-1]:.0f}", f"{found[name]:.1f}", *counts)
    console.print(describe_machine())
    console.print(table)
    draw(series, ROOT / "out/bench/soak.png")
    held = {name: {"seconds": own.seconds, "memory": own.memory} for name, own in series.items()}
    keep("soak", minutes=minutes, slopes=found, held=held)
    sys.exit(code)


if __name__ == "__main__":
    main()
