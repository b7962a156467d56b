"""Judge the bundle: ``python -m services.training.evaluation`` draws pictures and asks a classifier what they show.

The judge is trained on real scenes (it is trained first where it is not there yet) and knows nothing of the bundle's
CLIP; what it makes of real scenes is printed beside every figure, as the ceiling.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from rich.table import Table

from services.bundles.bundle import ROOT
from services.training import loop
from services.training.data.corpus import Corpus
from services.training.evaluation import judge as judging
from services.training.evaluation.curves import measure_curves
from services.training.evaluation.figures import Evaluation, Figure, Sheet, reduced
from services.training.evaluation.painter import Painter, Pictures
from services.training.recipes import clip

SEED = 1_000_003  # far from any seed of a training run
COLUMNS, TILE = 8, 160
SIMILARITY = 0.3
PARTS = (
    "one-object",
    "two-objects",
    "inpainting",
    "outpainting",
    "variations",
    "outside-vocabulary",
    "ranking",
    "copies",
    "curves",
)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
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
def main(parts: tuple[str, ...], bundle: Path, training: Path, out: Path, pictures: int, size: int, seed: int, threads: int,
         publish: bool,          **given: Any) -> None:  # fmt: skip
    """Measure PARTS (all, if none is named) and write report.json, report.md and contact sheets."""
    torch.set_num_threads(threads)
    painter = Painter(bundle.resolve(), threads)
    settings = replace(
        painter.defaults(size), **{name: value for name, value in given.items() if value is not None}
    )
    evaluation = Evaluation(painter, judging.train(training), settings, pictures, seed)
    measures: dict[str, Callable[[], None]] = {
        "one-object": evaluation.one_object,
        "two-objects": evaluation.two_objects,
        "inpainting": evaluation.inpainting,
        "outpainting": evaluation.outpainting,
        "variations": lambda: evaluation.variations(SIMILARITY),
        "outside-vocabulary": evaluation.outside_vocabulary,
        "ranking": lambda: _ranking(bundle, evaluation),
        "copies": lambda: _copies(evaluation, Corpus(training, loop.Recipe.scenes)),
        "curves": lambda: measure_curves(evaluation, bundle),
    }
    for part in parts or PARTS:
        measures[part]()
        _write(out, evaluation, parts)
    if evaluation.findings.figures:
        _show(evaluation.findings.figures)
    if publish:
        shutil.copytree(out, bundle / "docs", dirs_exist_ok=True)


def _ranking(bundle: Path, evaluation: Evaluation) -> None:
    """CLIP: the right caption first among 1,000."""
    model, tokenizer = clip.load(bundle)
    share = clip.retrieval(model, tokenizer)
    evaluation.findings.figures.append(
        Figure("CLIP: right caption first among 1,000", share, None, 1000, at_least=0.9)
    )


def _copies(evaluation: Evaluation, corpus: Corpus) -> None:
    """Sixteen pictures with their nearest training pictures (mean squared difference at 64 px) below them."""
    rng = np.random.default_rng((evaluation.seed, 6))
    scenes = evaluation.scenes("one", 6)[:16]
    made = np.stack(
        [
            reduced(p)
            for p in evaluation.painter.generate(
                [s.caption for s in scenes], evaluation.settings, int(rng.integers(2**31))
            )
        ]
    )
    nearest, distances = _nearest(made, corpus.pictures)
    rows = [
        list(half)
        for i in range(0, 16, COLUMNS)
        for half in (made[i : i + COLUMNS], corpus.pictures[nearest[i : i + COLUMNS]])
    ]
    evaluation.findings.sheets.append(("nearest-training-pictures", [p for row in rows for p in row]))
    name = "Root mean squared difference (of 255) of 16 pictures to their nearest training picture"
    evaluation.findings.lists[name] = [f"{d:.0f}" for d in distances]


def _nearest(made: Pictures, seen: Pictures) -> tuple[list[int], list[float]]:
    flat = torch.from_numpy(made).flatten(1).float()
    best, where = torch.full((len(made),), torch.inf), torch.zeros(len(made), dtype=torch.long)
    for start in range(0, len(seen), 2048):
        part = torch.from_numpy(np.array(seen[start : start + 2048])).flatten(1).float()
        low, index = torch.cdist(flat, part).min(1)
        where = torch.where(low < best, index + start, where)
        best = torch.minimum(best, low)
    return where.tolist(), (best / flat.shape[1] ** 0.5).tolist()


def _write(out: Path, evaluation: Evaluation, parts: Sequence[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    findings = evaluation.findings
    report = {
        "bundle": evaluation.painter.version, "pictures": evaluation.count, "seed": evaluation.seed,
        "settings": asdict(evaluation.settings),
        "figures": [asdict(f) for f in findings.figures], "lists": findings.lists,
    }  # fmt: skip
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "report.md").write_text(_markdown(evaluation, parts))
    for sheet in findings.sheets:
        _save_sheet(out, sheet)


def _markdown(evaluation: Evaluation, parts: Sequence[str]) -> str:
    painter, findings, settings = evaluation.painter, evaluation.findings, evaluation.settings
    drawn = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in asdict(settings).items())
    low, high = painter.decoder.config.diffusion.sampling.guidance_interval
    options = " ".join(
        [*parts, f"--pictures {evaluation.count} --size {settings.size} --seed {evaluation.seed}"]
    )
    lines = [
        f"# Evaluation of bundle {painter.version}", "",
        f"`make evaluate EVALUATE=\"{options}\"`; {drawn}, decoder guidance interval {low:g}-{high:g}.",
    ]  # fmt: skip
    if findings.figures:
        lines += ["", "| figure | drawn | on real scenes | goal | pictures |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(f)) + " |" for f in findings.figures]
    for name, items in findings.lists.items():
        lines += ["", f"## {name}", "", *[f"* {item}" for item in items]]
    return "\n".join(lines) + "\n"


def _cells(figure: Figure) -> tuple[str, ...]:
    def shown(value: float | None) -> str:
        if value is None:
            return "-"
        return f"{100 * value:.1f} %" if figure.noise or figure.at_least is not None else f"{value:.4g}"

    noise = f" ± {100 * figure.noise:.1f}" if figure.noise else ""
    goal = "-" if figure.met is None else f"{'>=' if figure.at_least is not None else '<='} "
    goal += (
        ""
        if figure.met is None
        else f"{shown(figure.at_least if figure.at_least is not None else figure.at_most)}, "
    )
    goal += "" if figure.met is None else ("met" if figure.met else "not met")
    return figure.name, shown(figure.value) + noise, shown(figure.real), goal, str(figure.pictures)


def _save_sheet(out: Path, sheet: Sheet) -> None:
    """Pictures in rows, all at one height."""
    name, pictures = sheet
    tiles = [Image.fromarray(np.asarray(p)) for p in pictures]
    tiles = [t.resize((round(t.width * TILE / t.height), TILE), Image.Resampling.LANCZOS) for t in tiles]
    columns = COLUMNS if tiles[0].width == TILE else COLUMNS // 2
    canvas = Image.new("RGB", (columns * tiles[0].width, -(-len(tiles) // columns) * TILE), "white")
    for i, tile in enumerate(tiles):
        canvas.paste(tile, (i % columns * tile.width, i // columns * TILE))
    canvas.save(out / f"{name}.jpg", quality=80)


def _show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "drawn", "on real scenes", "goal", "pictures")
    for figure in figures:
        table.add_row(*_cells(figure))
    loop.console.print(table)


if __name__ == "__main__":
    main()
