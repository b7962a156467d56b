"""``python -m tests.bench.rates``: what each stage's network computes a second, over the matrix rate here.

FLOPs are those of its products and convolutions, counted by torch; the seconds are all that a step takes.
The matrix rate is that of one large product in the same type, measured beside each. The shipped bundle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import patch

import click
import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, register_flop_formula

from services.bundles.bundle import ROOT, Bundle
from services.bundles.clip import load_image_tower, load_text_tower
from services.bundles.clip_source import ClipSource
from services.bundles.weights import best_device, best_dtype
from services.decoder.conditioning import ConditioningConfig
from services.decoder.sampler import PARTS, DecoderSampler
from services.decoder.tasks import DecoderTask
from services.diffusion.graphs import Graphs
from services.prior.sampler import PriorSampler, Text
from tests.bench.results import keep, show

ON_GPU = torch.cuda.is_available()
SIDE = 8192 if ON_GPU else 2048  # of the matrices
register_flop_formula(torch.ops.mkldnn._convolution_pointwise)(
    lambda x, weight, *_, out_shape, **__: conv_flop_count(x, weight, out_shape)
)
REPEATS = 7
BATCHES = (1, 8, 64, 256) if ON_GPU else (1, 2, 4, 8)
TOKENS = 32  # of a text
BUNDLE = str(ROOT / "models")
Step = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One line of the table. rows: that share a step; milliseconds: of a step, for each; rates in GFLOP/s."""

    network: str
    rows: int
    milliseconds: float
    gflop: float
    rate: float
    matrix_rate: float
    share: float


def least_seconds(step: Step, repeats: int = REPEATS) -> float:
    """Of a few: the time without what else the machine did."""
    times = []
    for _ in range(repeats):
        wait_for_device()
        started = time.perf_counter()
        step()
        wait_for_device()
        times.append(time.perf_counter() - started)
    return min(times)


def wait_for_device() -> None:
    """Until a GPU has done what it was told."""
    if ON_GPU:
        torch.cuda.synchronize()


def matrix_rate() -> float:
    """FLOPs a second of one large product."""
    device = best_device()
    matrix = torch.randn(SIDE, SIDE, device=device).to(best_dtype(device))
    return 2 * SIDE**3 / least_seconds(lambda: matrix @ matrix)


def measured(network: str, step_of: Callable[[int], Step]) -> list[Row]:
    """Of each batch. step_of(batch): a step of so many rows, which may be taken again."""
    rows = []
    for batch in BATCHES:
        step = step_of(batch)
        step()
        # A recorded call is not counted, so the network is called.
        with patch.object(Graphs, "call", called), FlopCounterMode(display=False) as counter:
            step()
        flops = counter.get_total_flops()
        rate = matrix_rate()
        seconds = least_seconds(step)
        share = flops / seconds / rate
        figures = (1000 * seconds / batch, flops / 1e9, flops / seconds / 1e9, rate / 1e9, share)
        rows.append(Row(network, batch, *(round(figure, 2) for figure in figures)))
    return rows


def called(graphs: Graphs, network: Callable[..., torch.Tensor], *given: torch.Tensor | None) -> torch.Tensor:
    """In the place of ``Graphs.call``."""
    del graphs
    return network(*given)


def towers() -> list[Row]:
    """CLIP's."""
    threads = os.cpu_count() or 1
    source = ClipSource(bundle=BUNDLE)
    text, image = load_text_tower(source, threads), load_image_tower(source, threads)
    length, side = text.config.model_cfg.text_cfg.context_length, image.config.model_cfg.vision_cfg.image_size
    pixels = torch.randn(1, 3, side, side, device=image.device).to(next(image.tower.parameters()).dtype)
    tokens = torch.arange(length, device=text.device)[None]

    def of(network: Any, given: torch.Tensor) -> Callable[[int], Step]:
        return lambda batch: lambda: network(given.expand(batch, *given.shape[1:]).contiguous())

    with torch.inference_mode():
        return [
            *measured("text tower", of(text.tower, tokens)),
            *measured("image tower", of(image.tower, pixels)),
        ]


def prior() -> list[Row]:
    """A step of guided rows."""
    sampler = PriorSampler(Bundle(BUNDLE, "prior"))
    config = sampler.config

    def step_of(batch: int) -> Step:
        text = Text(
            torch.randn(config.embedding_dim, device=sampler.device),
            torch.randn(config.text_tokens, config.embedding_dim, device=sampler.device),
            torch.arange(config.text_tokens, device=sampler.device) < 9,
        )
        conditioning = sampler.project(text, text)
        rows = [
            sampler.start(conditioning, seed=seed, candidate=0, steps=100, guidance=3.0)
            for seed in range(batch)
        ]
        return lambda: sampler.advance(rows)

    return measured("prior", step_of)


def decoder(size: int, evaluated: str) -> list[Row]:
    """A step of guided rows in the base network, or of rows in the upsampler to this size."""
    sampler = DecoderSampler(Bundle(BUNDLE, *PARTS))
    config = sampler.config.conditioning
    assert isinstance(config, ConditioningConfig)

    def step_of(batch: int) -> Step:
        image, text = torch.randn(2, config.embedding_dim, device=sampler.device)
        states = torch.randn(TOKENS, config.text_dim, device=sampler.device)
        visible = torch.arange(TOKENS, device=sampler.device) < 9
        context = sampler.project(image, text, states, visible)
        rows = [
            sampler.start(DecoderTask(context, context, seed, 100 if size == 64 else 1, 3.0, 100, size))
            for seed in range(batch)
        ]
        while rows[0].network != evaluated:
            sampler.advance(rows)
        return lambda: sampler.advance(rows)

    return measured(evaluated, step_of)


@click.command()
def main() -> None:
    """Print a table, and write out/bench/rates.json."""
    torch.set_num_threads(os.cpu_count() or 1)
    rows = [*towers(), *prior(), *decoder(64, "decoder"), *decoder(256, "upsampler-256")]
    show(rows)
    keep("rates", dtype=str(best_dtype(best_device())), rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
