"""Train the bundle: ``python -m services.training`` runs every recipe, ``... prior`` one of them.

A recipe goes on from its checkpoint if there is one. One that is done is not trained again.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click
import torch

from services.bundles.bundle import ROOT
from services.training.assembly import MissingPart, complete, install, take_over_needs
from services.training.evaluation import judge
from services.training.loop import RunConfig, console
from services.training.recipes import clip, decoder, prior, upsampler, wording
from services.training.recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    "clip": clip.RECIPE,
    "wording": wording.RECIPE,
    "prior": prior.RECIPE,
    "decoder": decoder.RECIPE,
    **{upsampling.name: upsampling.recipe for upsampling in upsampler.UPSAMPLERS},
    "judge": judge.RECIPE,
}


@click.command()
@click.argument("recipes", nargs=-1, type=click.Choice(list(RECIPES)))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "out/training",
    show_default="out/training",
    help="Where checkpoints, sample grids and the bundle go.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Train each network for so long in all, instead of its recipe's steps.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Train each network for so many steps in all, instead of its recipe's.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="Examples of one step instead of the recipe's; a GPU wants more than a CPU.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="The peak instead of the recipe's; to go on from weights, a smaller one.",
)
@click.option(
    "--threads", type=int, default=os.cpu_count(), show_default="all cores", help="Of torch, on a CPU."
)
@click.option(
    "--scenes",
    type=click.IntRange(1024),
    default=RunConfig.scenes,
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
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Processes that draw the batches of decoder and wordings ahead of time; a GPU wants several.",
)
@click.option("--version", default="0", show_default=True, help="Of the bundle, for its manifest.")
@click.option(
    "--install",
    "installed",
    is_flag=True,
    help="Put the bundle into models/. If RECIPES are named, its other parts stay.",
)
def main(
    recipes: tuple[str, ...],
    out: Path,
    minutes: float,
    steps: int | None,
    batch: int | None,
    learning_rate: float | None,
    threads: int,
    scenes: int,
    start_from: Path | None,
    compiled: bool,
    workers: int,
    version: str,
    installed: bool,
) -> None:
    """Run RECIPES (all, in order, if none is named) and write the bundle with its manifest."""
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    chosen = {name: RECIPES[name] for name in recipes or RECIPES}
    try:
        take_over_needs([*chosen], RECIPES, out / "bundle", start_from)
    except MissingPart as error:
        raise click.ClickException(str(error)) from None
    for recipe in chosen.values():
        config = replace(
            recipe.config,
            minutes=minutes,
            steps=steps or recipe.config.steps,
            batch=batch or recipe.config.batch,
            learning_rate=learning_rate or recipe.config.learning_rate,
            scenes=scenes,
            start_from=start_from,
            compiled=compiled,
            workers=workers,
        )
        recipe.train(out, config)
    if not (out / "bundle").exists():
        return  # the judge is no part of it
    complete(out / "bundle", version)
    console.print(f"the bundle is in {out / 'bundle'}", highlight=False)
    if installed:
        install(out / "bundle", ROOT / "models", whole=not recipes)


if __name__ == "__main__":
    main()
