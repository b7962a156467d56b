"""Train the bundle: ``python -m services.training`` runs the whole chain, ``python -m services.training prior`` one stage.

Every stage resumes from its checkpoint; a stage that is done is not trained again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import torch

from services.bundles.bundle import ROOT, Licence, write_manifest
from services.training import loop
from services.training.evaluation import judge
from services.training.recipes import clip, decoder, prior, upsampler

Trainer = Callable[[Path, loop.Recipe], object]
STAGES: dict[str, tuple[Trainer, loop.Recipe]] = {
    "clip": (clip.train, clip.RECIPE),
    "decoder": (decoder.train, decoder.RECIPE),
    "prior": (prior.train, prior.RECIPE),
    **{stage.name: (stage.train, stage.recipe) for stage in upsampler.STAGES},
    "judge": (judge.train, judge.RECIPE),
}
LICENCES = (
    Licence(
        subject="model weights", identifier="MIT", source="trained by this project's own code (make train)"
    ),
    Licence(
        subject="training artwork: Fluent Emoji 3D",
        identifier="MIT",
        source="npm @lobehub/fluent-emoji-3d, by Microsoft",
    ),
    Licence(
        subject="training artwork: Fluent Emoji gradient vectors",
        identifier="MIT",
        source="npm @iconify-json/fluent-emoji, by Microsoft",
    ),
    Licence(
        subject="names of the artwork: emojibase-data",
        identifier="MIT",
        source="npm emojibase-data, by Miles Johnson",
    ),
)


@click.command()
@click.argument("stages", nargs=-1, type=click.Choice(list(STAGES)))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "out/training",
    show_default="out/training",
    help="Where checkpoints, sample grids and the bundle go.",
)
@click.option(
    "--minutes", type=float, default=0.0, help="Train each stage for that long instead of its recipe's steps."
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="Examples of one step instead of the recipe's; a GPU wants more than a CPU.",
)
@click.option(
    "--threads", type=int, default=os.cpu_count(), show_default="all cores", help="Of torch, on a CPU."
)
@click.option(
    "--scenes",
    type=click.IntRange(1024),
    default=loop.Recipe.scenes,
    show_default=True,
    help="Size of the corpus.",
)
@click.option(
    "--start-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A bundle to begin from (say, models): weights whose names and shapes agree are taken over.",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Compile the networks first (minutes, with a C++ compiler), for faster steps.",
)
@click.option("--version", default="0", show_default=True, help="Of the bundle, for its manifest.")
@click.option("--install", is_flag=True, help="Put the finished bundle into models/.")
def main(stages: tuple[str, ...], out: Path, minutes: float, batch: int | None, threads: int, scenes: int, start_from: Path | None,
         compiled: bool, version: str, install: bool) -> None:  # fmt: skip
    """Train STAGES (all, in order, if none is named) and write the bundle with its manifest."""
    torch.set_num_threads(threads)
    for stage in stages or STAGES:
        train, recipe = STAGES[stage]
        given = replace(
            recipe,
            minutes=minutes,
            batch=batch or recipe.batch,
            scenes=scenes,
            start_from=start_from,
            compiled=compiled,
        )
        train(out, given)
    notices = "".join(f"* {x.subject}: {x.identifier}; {x.source}\n" for x in LICENCES)
    (out / "bundle/LICENSE.md").write_text(f"# Licences of this bundle\n\n{notices}")
    write_manifest(out / "bundle", "unclip-emoji", version, LICENCES)
    loop.console.print(f"the bundle is in {out / 'bundle'}", highlight=False)
    if install:
        for part in (ROOT / "models").iterdir():
            if part.is_dir() and part.name != "docs":
                shutil.rmtree(part)
        shutil.copytree(out / "bundle", ROOT / "models", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
