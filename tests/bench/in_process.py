"""``python -m tests.bench.in_process``: the decoder's sampling beside ``diffusers``', a process each.

Without services, so it runs wherever torch does: on a GPU, too. Both draw Kandinsky's pictures from image
embeddings, with the same weights, steps and guidance. Seconds of one picture, and pictures a second of a
batch. Then whether a row gets the same bits alone and among others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from services.bundles.bundle import Bundle
from services.bundles.weights import best_device, best_dtype
from services.decoder.sampler import PARTS, DecoderSampler
from services.decoder.tasks import DecoderTask
from services.diffusion.pixels import to_pixels
from tests.bench.apart import apart
from tests.bench.peers_model import DIM, GUIDANCE, make
from tests.bench.rates import least_seconds
from tests.bench.results import keep, show

SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Work:
    """What both sides do. batch: pictures of the second figure."""

    size: int
    steps: int
    batch: int
    repeats: int


@dataclass(frozen=True)
class Row:
    """A side's figures."""

    side: str
    seconds: float
    pictures_a_second: float


def timed(side: str, draw: Callable[[int], Any], work: Work) -> Row:
    """The best of some, after one to warm up."""
    least = []
    for count in (1, work.batch):
        draw(count)
        least.append(least_seconds(partial(draw, count), work.repeats))
    return Row(side, round(least[0], 4), round(work.batch / least[1], 3))


def of_diffusers(folder: Path, work: Work, dtype: str, *, compiled: bool) -> Row:
    """Its decoder's pipeline."""
    from diffusers import KandinskyV22Pipeline

    kind = getattr(torch, dtype)
    pipeline = KandinskyV22Pipeline.from_pretrained(folder / "decoder", torch_dtype=kind).to(best_device())
    pipeline.set_progress_bar_config(disable=True)
    if compiled:
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.unet = torch.compile(pipeline.unet)
    embedding = torch.randn(1, DIM, device=best_device(), dtype=kind)

    def draw(count: int) -> Any:
        some = embedding.expand(count, -1)
        return pipeline(
            image_embeds=some,
            negative_image_embeds=torch.zeros_like(some),
            height=work.size,
            width=work.size,
            num_inference_steps=work.steps,
            guidance_scale=GUIDANCE,
            output_type="np",
        )

    return timed(f"diffusers, {dtype}" + (", channels last, compiled" if compiled else ""), draw, work)


class Ours:
    """This project's decoder, without its service."""

    def __init__(self, folder: Path, work: Work, sizes: tuple[int, ...] = ()) -> None:
        self._work = work
        self._sampler = DecoderSampler(Bundle(folder / "bundle", *PARTS), call_sizes=sizes)
        device = self._sampler.device
        nothing = torch.empty(0, device=device)
        embedding = torch.randn(DIM, device=device, generator=torch.Generator(device).manual_seed(0))
        self._context = self._sampler.project(embedding, nothing, nothing, nothing)
        self._unconditional = self._sampler.project(None, nothing, nothing, nothing)

    @torch.inference_mode()
    def draw(self, count: int) -> list[torch.Tensor]:
        """So many pictures, (3, H, W) each."""
        rows = [self._sampler.start(self._task(seed)) for seed in range(count)]
        while not rows[0].finished:
            self._sampler.advance(rows)
        return [to_pixels(row.result[None]).cpu() for row in rows if row.result is not None]

    def _task(self, seed: int) -> DecoderTask:
        work = self._work
        return DecoderTask(self._context, self._unconditional, seed, work.steps, GUIDANCE, 1, work.size)


def of_ours(folder: Path, work: Work) -> Row:
    """Without fixed sizes of calls."""
    return timed(f"this project, {best_dtype(best_device())}", Ours(folder, work).draw, work)


def same_bits(folder: Path, work: Work) -> bool:
    """Whether a picture is the same alone and among others, with sizes of calls as they are served."""
    ours = Ours(folder, work, SIZES)
    ours.draw(work.batch)
    alone = ours.draw(1)
    return all(torch.equal(alone[0], ours.draw(count)[0]) for count in (2, 3, work.batch))


@click.command()
@click.option("--size", default=512, show_default=True, help="Of the pictures.")
@click.option("--steps", default=25, show_default=True)
@click.option("--batch", default=8, show_default=True, help="Pictures of one call.")
@click.option("--repeats", default=3, show_default=True)
@click.option(
    "--compiled/--not-compiled", default=True, show_default=True, help="diffusers at its best, too."
)
def main(size: int, steps: int, batch: int, repeats: int, compiled: bool) -> None:
    """Print a table, and write out/bench/in-process.json."""
    work = Work(size, steps, batch, repeats)
    dtype = str(best_dtype(best_device())).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        rows = [apart(of_ours, folder, work), apart(of_diffusers, folder, work, "float32", compiled=False)]
        ways = (False, True) if compiled else (False,)
        rows += [apart(of_diffusers, folder, work, dtype, compiled=way) for way in ways]
        same = apart(same_bits, folder, work)
    show(rows)
    print(f"the same bits alone and among others: {same}")
    keep("in-process", work=asdict(work), rows=[asdict(row) for row in rows], same_bits=same)


if __name__ == "__main__":
    main()
