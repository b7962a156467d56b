"""``python -m tests.bench.lanes``: a guided step of the shipped decoder, in one call or in lanes.

Threads of one call wait for one another after every operation: asleep, as they do in a replica whose process
has more threads than there are cores, or awake. Each way is a process of its own, alone and beside one that
has a part of a core. Milliseconds of a step, the middle of many, by the rows in it.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click
import torch

from services.bundles.bundle import Bundle
from services.bundles.weights import best_device
from services.decoder.conditioning import ConditioningConfig
from services.decoder.sampler import PARTS, DecoderSampler
from services.decoder.tasks import DecoderTask
from services.diffusion.lanes import Lanes
from tests.bench.apart import apart
from tests.bench.results import keep, show

ROWS = (1, 2, 4)
TOKENS = 32
STEPS = 40
SIZES = (1, 2, 3, 4, 5, 6, 7, 8)
BESIDE = {"nothing": 0.0, "a quarter of a core": 0.25, "a core": 1.0}
WAYS = {"one call, threads asleep": (1, "0"), "one call, threads awake": (1, ""), "lanes": (2, "0")}
PERIOD = 0.004  # s
BUSY = """
import time
while True:
    started = time.perf_counter()
    while time.perf_counter() - started < {busy}: pass
    time.sleep({idle})
"""


@dataclass(frozen=True)
class Row:
    """Milliseconds of a step with so many rows."""

    way: str
    beside: str
    one: float
    two: float
    four: float


def milliseconds(lanes: int) -> list[float]:
    """Of steps with each of ROWS, in this process."""
    torch.set_num_threads(os.cpu_count() or 1)
    sampler = DecoderSampler(Bundle("models", *PARTS), call_sizes=SIZES, lanes=Lanes(lanes))
    return [_step(sampler, count) for count in ROWS]


def _step(sampler: DecoderSampler, count: int) -> float:
    config = sampler.config.conditioning
    assert isinstance(config, ConditioningConfig)
    device = best_device()
    image, text = torch.randn(2, config.embedding_dim, device=device)
    states = torch.randn(TOKENS, config.text_dim, device=device)
    visible = torch.arange(TOKENS, device=device) < 9
    context = sampler.project(image, text, states, visible)
    nothing = sampler.project(None, text, states, visible)
    # A guidance that is not distilled into the network, so that every step is two evaluations.
    rows = [
        sampler.start(DecoderTask(context, nothing, seed, 10 * STEPS, 4.0, 1, sampler.config.side))
        for seed in range(count)
    ]
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        sampler.advance(rows)
        times.append(time.perf_counter() - started)
    return round(1000 * statistics.median(times), 1)


@contextlib.contextmanager
def busy(share: float) -> Iterator[None]:
    """Beside a process that has so much of a core."""
    if not share:
        yield
        return
    script = BUSY.format(busy=PERIOD * share, idle=PERIOD * (1 - share))
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        try:
            yield
        finally:
            process.kill()


@click.command()
def main() -> None:
    """Print a table, and write out/bench/lanes.json."""
    rows = []
    for beside, share in BESIDE.items():
        for way, (lanes, spins) in WAYS.items():
            if spins:
                os.environ["GOMP_SPINCOUNT"] = spins
            else:
                os.environ.pop("GOMP_SPINCOUNT", None)
            with busy(share):
                rows.append(Row(way, beside, *apart(milliseconds, lanes)))
    show(rows)
    keep("lanes", rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
