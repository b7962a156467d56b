"""``python -m tests.bench.cold``: what a replica's start costs by itself, without Ray.

A new replica on Kubernetes takes as much, on a node that has the image, after Ray has started its process.
Each stage is loaded in a process of its own, as its replica does it: seconds until it could take a request,
of these the imports; CPU seconds of the whole process; the memory (PSS) that it holds then. The middle of a
few.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import click

from services.bundles.bundle import ROOT
from services.wire.stages import STAGES
from tests.bench.results import keep, show

BEGIN = """
import json, time
began = time.perf_counter()
"""
LOADS: Mapping[str, str] = {
    "text_encoder": """
from services.bundles.clip_source import ClipSettings, ClipSource
from services.text_encoder.stage import TextEncoderStage
imported = time.perf_counter()
stage = TextEncoderStage(ClipSettings(clip=ClipSource(bundle="models"), threads=1))
""",
    "image_encoder": """
from services.bundles.clip_source import ClipSettings, ClipSource
from services.image_encoder.stage import ImageEncoderStage
imported = time.perf_counter()
stage = ImageEncoderStage(ClipSettings(clip=ClipSource(bundle="models"), threads=1))
""",
    "prior": """
from services.prior.settings import Settings
from services.prior.stage import PriorStage
imported = time.perf_counter()
stage = PriorStage(Settings(bundle="models", threads=1))
""",
    "decoder": """
from services.decoder.settings import Settings
from services.decoder.stage import DecoderStage
imported = time.perf_counter()
stage = DecoderStage(Settings(bundle="models", threads=2))
""",
}
END = """
ready = time.perf_counter()
import psutil
process = psutil.Process()
print(json.dumps({
    "seconds": ready - began,
    "importing": imported - began,
    "cpu_seconds": sum(process.cpu_times()[:2]),
    "mib": process.memory_full_info().pss / 2**20,
}))
"""


@dataclass(frozen=True)
class Row:
    """One stage. importing: of the seconds."""

    stage: str
    seconds: float
    importing: float
    cpu_seconds: float
    mib: float


def started(stage: str) -> dict[str, float]:
    """One start."""
    script = BEGIN + LOADS[stage] + END
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
def main(repeats: int) -> None:
    """Print a table, and write out/bench/cold.json."""
    rows = []
    for stage in STAGES:
        found = [started(stage) for _ in range(repeats)]
        middle = {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}
        rows.append(Row(stage, **middle))
    show(rows)
    keep("cold", rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
