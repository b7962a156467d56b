"""Evaluate the bundle: ``python -m services.training.evaluation`` draws pictures, and a judge looks at them.

The judge is trained on real scenes, first, if it is not there yet. It knows nothing of the bundle's CLIP.
What it makes of real scenes is told beside every figure: no drawn picture can be expected to do better.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from services.bundles.bundle import DOCS, ROOT
from services.training.data.corpus import Corpus
from services.training.evaluation import judge
from services.training.evaluation.copies import note_copies
from services.training.evaluation.curves import note_curves
from services.training.evaluation.editing import inpainting, outpainting
from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import Figure
from services.training.evaluation.generation import one_object, outside_vocabulary, two_objects
from services.training.evaluation.language import paraphrases, unknown_beside_known
from services.training.evaluation.painter import Painter
from services.training.evaluation.report import show, write_report
from services.training.evaluation.variation import variations
from services.training.evaluation.variety import variety
from services.training.loop import RunConfig
from services.training.recipes import clip

SEED = 1_000_003  # far from any seed of a training run
RANKED = 1000  # captions
# What can be measured: functions of the examiner, the bundle's folder and the training folder.
PARTS: dict[str, Callable[[Examiner, Path, Path], None]] = {
    "one-object": lambda examiner, bundle, training: one_object(examiner),
    "two-objects": lambda examiner, bundle, training: two_objects(examiner),
    "inpainting": lambda examiner, bundle, training: inpainting(examiner),
    "outpainting": lambda examiner, bundle, training: outpainting(examiner),
    "variations": lambda examiner, bundle, training: variations(examiner),
    "paraphrases": lambda examiner, bundle, training: paraphrases(examiner),
    "unknown-beside-known": lambda examiner, bundle, training: unknown_beside_known(examiner),
    "variety": lambda examiner, bundle, training: variety(examiner),
    "outside-vocabulary": lambda examiner, bundle, training: outside_vocabulary(examiner),
    "ranking": lambda examiner, bundle, training: _ranking(examiner, bundle),
    "copies": lambda examiner, bundle, training: note_copies(examiner, Corpus(training, RunConfig.scenes)),
    "curves": lambda examiner, bundle, training: note_curves(examiner, bundle),
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "models",
    show_default="models",
)
@click.option(
    "--training",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "out/training",
    show_default="out/training",
    help="Where the judge and the corpus are, or are made.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "out/evaluate",
    show_default="out/evaluate",
)
@click.option("--pictures", type=click.IntRange(8), default=1000, show_default=True, help="For each figure.")
@click.option("--size", type=int, default=256, show_default=True, help="Of the pictures, in px.")
@click.option("--steps", "decoder_steps", type=int, help="Of the decoder.")
@click.option("--guidance", "decoder_guidance", type=float, help="Of the decoder.")
@click.option("--prior-steps", type=int)
@click.option("--prior-guidance", type=float)
@click.option("--upsampler-steps", type=int)
@click.option("--seed", type=int, default=SEED, show_default=True, help="Of prompts, scenes and pictures.")
@click.option("--threads", type=int, default=os.cpu_count(), show_default="all cores")
@click.option("--publish", is_flag=True, help="Put the report and the sheets into the bundle's docs.")
def main(
    parts: tuple[str, ...],
    bundle: Path,
    training: Path,
    out: Path,
    pictures: int,
    size: int,
    seed: int,
    threads: int,
    publish: bool,
    **settings: Any,
) -> None:
    """Measure PARTS (all, if none is named) and write report.json, report.md and contact sheets."""
    torch.set_num_threads(threads)
    painter = Painter(bundle.resolve(), threads)
    given = {name: value for name, value in settings.items() if value is not None}
    examiner = Examiner(
        painter, judge.train(training), replace(painter.defaults(size), **given), pictures, seed
    )
    for part in parts or PARTS:
        PARTS[part](examiner, bundle, training)
        write_report(out, examiner, parts)
    if examiner.findings.figures:
        show(examiner.findings.figures)
    if publish:
        shutil.copytree(out, bundle / DOCS, dirs_exist_ok=True)


def _ranking(examiner: Examiner, bundle: Path) -> None:
    """CLIP alone: the right caption first among RANKED."""
    model, tokenizer = clip.load(bundle)
    share = clip.retrieval(model, tokenizer, RANKED)
    name = f"CLIP: right caption first among {RANKED:,}"
    examiner.findings.figures.append(Figure(name, share, None, RANKED, at_least=0.9))


if __name__ == "__main__":
    main()
