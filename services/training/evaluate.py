"""Judge the bundle: ``python -m services.training.evaluate`` draws prompts' pictures and asks a classifier what they show.

The judge is trained on real scenes (it is trained first where it is not there yet) and knows nothing of the bundle's
CLIP; its own accuracy on real scenes is printed beside every figure, as the ceiling.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor, nn

from services.checkpoints.bundle import ROOT, Bundle
from services.checkpoints.clip import load_clip
from services.checkpoints.clip_source import ClipSource
from services.decoder.sampler import BASE, UPSAMPLER, DecoderRow, DecoderSampler, DecoderTask
from services.prior.sampler import PriorConditioning, PriorRow, PriorSampler, Text
from services.text_encoder.encoder import EncodedText, TextEncoder
from services.training import judge as judging
from services.training import loop
from services.training.scenes import Scene, render, sample_scene

BATCH = 25
PROMPT_SEED, REAL_SEED = 1_000_003, 2_000_003  # of scenes that no training run draws
GRID = 32
Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Accuracy:
    """Shares of one-object pictures in which the judge sees what was asked for."""

    background: float
    object_top1: float
    object_top5: float


@dataclass(frozen=True)
class Settings:
    """How the pictures are drawn; None: the bundle's own defaults."""

    size: int
    candidates: int
    decoder_steps: int
    decoder_guidance: float
    prior_guidance: float


class Painter:
    """The bundle's stages in one process, without Ray: the very code that the replicas run."""

    def __init__(self, bundle: Path, threads: int) -> None:
        self._text = TextEncoder(load_clip(ClipSource(bundle=str(bundle)), threads))
        opened = Bundle(bundle, "prior", "decoder", "upsampler")
        self.prior, self.decoder = PriorSampler(opened, call_size=0), DecoderSampler(opened, call_sizes={BASE: 0, UPSAMPLER: 1})

    def defaults(self) -> Settings:
        """What a request that says nothing gets."""
        prior, decoder = self.prior.config.diffusion.sampling, self.decoder.config.diffusion.sampling
        return Settings(self.decoder.sizes[-1], 2, decoder.steps, decoder.guidance, prior.guidance)

    @torch.inference_mode()
    def paint(self, prompts: Sequence[str], settings: Settings, seed: int) -> Pictures:
        """Pictures of prompts, (n, 64, 64, 3): drawn at ``settings.size`` and reduced to what the judge looks at."""
        blank, *texts = self._text.encode(["", *prompts])
        embeddings = self._embed(texts, blank, settings, seed)
        unconditional = self.decoder.project(None, *_tensors(blank))
        rows = []
        for i, (text, embedding) in enumerate(zip(texts, embeddings, strict=True)):
            task = DecoderTask(
                context=self.decoder.project(embedding, *_tensors(text)),
                unconditional=unconditional,
                seed=seed + i,
                steps=settings.decoder_steps,
                guidance=settings.decoder_guidance,
                upsampler_steps=self.decoder.upsampler_config.diffusion.sampling.steps,
                size=settings.size,
            )
            rows.append(self.decoder.start(task))
        while running := [row for row in rows if not row.finished]:
            self.decoder.advance(running)
        return np.stack([_for_judge(row) for row in rows])

    def _embed(self, texts: Sequence[EncodedText], blank: EncodedText, settings: Settings, seed: int) -> list[Tensor]:
        groups: list[list[PriorRow]] = []
        steps = self.prior.config.diffusion.sampling.steps
        for i, text in enumerate(texts):
            conditioning = PriorConditioning(Text(*_tensors(text)), Text(*_tensors(blank)))
            groups.append(
                [
                    self.prior.start(conditioning, seed=seed + i, candidate=c, steps=steps, guidance=settings.prior_guidance)
                    for c in range(settings.candidates)
                ]
            )
        while running := [row for group in groups for row in group if not row.finished]:
            self.prior.advance(running)
        return [self.prior.best(group)[0] for group in groups]


def _tensors(text: EncodedText) -> tuple[Tensor, Tensor, Tensor]:
    device = loop.device()
    return torch.from_numpy(text.embedding).to(device), torch.from_numpy(text.states).to(device), torch.from_numpy(text.mask).to(device)


def _for_judge(row: DecoderRow) -> Pictures:
    assert row.result is not None
    pixels = ((row.result + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.asarray(Image.fromarray(pixels).resize((judging.SIDE, judging.SIDE), Image.Resampling.BOX))


def one_object_scenes(count: int, seed: int, *, held_out: bool = False) -> list[Scene]:
    """Scenes of one object each, from the training split or the held-out one."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, held_out=held_out, count=1) for _ in range(count)]


def accuracy(judge: nn.Module, pictures: Pictures, scenes: Sequence[Scene]) -> Accuracy:
    """What the judge sees in pictures that should show these scenes."""
    ranked, places = judging.verdicts(judge, pictures)
    objects, backgrounds = judging.labels(scenes)
    wanted = objects.argmax(1)
    return Accuracy(
        background=float((places == backgrounds).float().mean()),
        object_top1=float((ranked[:, 0] == wanted).float().mean()),
        object_top5=float((ranked[:, :5] == wanted[:, None]).any(1).float().mean()),
    )


def batches(count: int) -> Iterator[slice]:
    """Slices of at most BATCH."""
    for start in range(0, count, BATCH):
        yield slice(start, min(start + BATCH, count))


def contact_sheet(pictures: Pictures, columns: int = 8) -> Image.Image:
    """Pictures in rows."""
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures) // columns * columns, columns)]
    return Image.fromarray(np.concatenate(rows))


@click.command()
@click.option("--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), default=ROOT / "models", show_default="models")
@click.option(
    "--training",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "out/training",
    show_default="out/training",
    help="Where the judge is, or is trained.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "out/evaluate", show_default="out/evaluate")
@click.option("--prompts", type=click.IntRange(1), default=500, show_default=True)
@click.option("--held-out", is_flag=True, help="Prompts of pairs that were never trained on, instead.")
@click.option("--size", type=int, help="Of the pictures, in px.")
@click.option("--steps", type=int, help="Of the decoder.")
@click.option("--guidance", type=float, help="Of the decoder.")
@click.option("--prior-guidance", type=float)
@click.option("--threads", type=int, default=os.cpu_count(), show_default="all cores")
def main(bundle: Path, training: Path, out: Path, prompts: int, held_out: bool, size: int | None, steps: int | None,
         guidance: float | None, prior_guidance: float | None, threads: int) -> None:  # fmt: skip
    """Draw prompts' pictures, judge them, and write report.json and a contact sheet."""
    torch.set_num_threads(threads)
    judge = judging.train(training)
    painter = Painter(bundle.resolve(), threads)
    given: dict[str, Any] = {"size": size, "decoder_steps": steps, "decoder_guidance": guidance, "prior_guidance": prior_guidance}
    settings = replace(painter.defaults(), **{k: v for k, v in given.items() if v is not None})
    real = one_object_scenes(1000, REAL_SEED, held_out=held_out)
    ceiling = accuracy(judge, np.stack([render(s, judging.SIDE) for s in real]), real)
    scenes = one_object_scenes(prompts, PROMPT_SEED, held_out=held_out)
    parts = track(list(batches(prompts)), "drawing", console=loop.console)
    pictures = np.concatenate([painter.paint([s.caption for s in scenes[part]], settings, part.start) for part in parts])
    generated = accuracy(judge, pictures, scenes)
    report = {
        "split": "held out" if held_out else "training",
        "prompts": prompts,
        "settings": asdict(settings),
        "generated": asdict(generated),
        "real": asdict(ceiling),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    contact_sheet(pictures[:GRID]).resize((8 * 128, GRID // 8 * 128), Image.Resampling.BICUBIC).save(out / "pictures.png")
    for name in ("background", "object_top1", "object_top5"):
        click.echo(f"{name:12} {100 * getattr(generated, name):5.1f} %   (the judge on real scenes: {100 * getattr(ceiling, name):5.1f} %)")


if __name__ == "__main__":
    main()
