"""``python -m tests.bench.startup``: from ``make serve`` to ready, what the stack then holds, and a picture.

Once for this tree and once for an earlier commit, in turn, on the same machine with the same packages.
Memory is the sum of the processes' shares (PSS): a page that several map counts once. The table goes to the
terminal, and the same figures to out/bench/startup.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from services.bundles.bundle import ROOT
from tests.bench import held
from tests.bench.results import keep

FIRST = "6e5c112"  # before anything was done about it


@dataclass(frozen=True)
class Start:
    """Seconds until the stack is ready, CPU seconds of the machine meanwhile, and MiB of all processes.

    replicas: of the four stages' processes alone. resident: with shared pages counted for each process.
    picture, four: seconds of requests for one picture and for four, of 256 px, with the model's defaults.
    """

    seconds: float
    cpu: float
    memory: float
    replicas: float
    resident: float
    picture: float
    four: float


def started(tree: Path) -> Start:
    """Start the stack of a tree, and stop it."""
    module = "deploy.local" if (tree / "deploy/local").exists() else "deploy.stack"
    paths = [str(tree), str(tree / "protos"), str(tree / "clients/python")]
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, str(Path(held.__file__).resolve()), file.name]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        cpu = held.busy_seconds()
        begun = time.time()
        subprocess.run(
            [sys.executable, "-m", module, "--", *command],
            cwd=tree,
            env=environment,
            check=True,
            capture_output=True,
        )
        found = json.loads(Path(file.name).read_text())
    times = {"seconds": found.pop("time") - begun, "cpu": found.pop("cpu") - cpu}
    return Start(**times, **found)


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A commit's tree, with its stubs."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), commit], check=True, capture_output=True)
        try:
            subprocess.run([sys.executable, "-m", "deploy.protos"], cwd=tree, check=True, capture_output=True)
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True, capture_output=True)


def median(starts: list[Start]) -> Start:
    """Of each figure."""
    columns = zip(*(asdict(start).values() for start in starts), strict=True)
    return Start(*(round(statistics.median(column), 2) for column in columns))


@click.command()
@click.option("--against", default=FIRST, show_default=True, help="The commit to compare with.")
@click.option("--repeats", default=3, show_default=True)
def main(against: str, repeats: int) -> None:
    """Print a table, and write out/bench/startup.json."""
    found: dict[str, list[Start]] = {"this": [], against: []}
    with checked_out(against) as before:
        for _ in range(repeats):
            for name, tree in (("this", ROOT), (against, before)):
                found[name].append(started(tree))
                Console(stderr=True).print(name, found[name][-1])
    medians = {name: median(starts) for name, starts in found.items()}
    ratios = {
        key: round(value / asdict(medians[against])[key], 3) for key, value in asdict(medians["this"]).items()
    }
    table = Table("tree", *asdict(medians["this"]))
    for name, start in medians.items():
        table.add_row(name, *(f"{value:.2f}" for value in asdict(start).values()))
    table.add_row("ratio", *(f"{value:.2f}" for value in ratios.values()))
    Console(width=120).print(table)
    keep("startup", ratios=ratios, **{name: asdict(start) for name, start in medians.items()})


if __name__ == "__main__":
    main()
