"""The report of an evaluation: report.json, report.md, contact sheets, and a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import Figure, Sheet
from services.training.loop import console

HEADINGS = ("figure", "drawn", "on real scenes", "goal", "pictures")
TILE = 256  # height of a picture on a sheet, in px
QUALITY = 78  # of a sheet's file


def write_report(out: Path, examiner: Examiner, parts: Sequence[str]) -> None:
    """Write what was found so far. parts: what was asked for, as named on the command line."""
    out.mkdir(parents=True, exist_ok=True)
    findings = examiner.findings
    report = {
        "bundle": examiner.painter.version,
        "pictures": examiner.count,
        "seed": examiner.seed,
        "settings": asdict(examiner.settings),
        "figures": [asdict(f) for f in findings.figures],
        "lists": findings.lists,
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "report.md").write_text(_markdown(examiner, parts))
    for sheet in findings.sheets:
        _save_sheet(out, sheet)


def show(figures: Sequence[Figure]) -> None:
    """Print figures as a table."""
    table = Table(*HEADINGS)
    for figure in figures:
        table.add_row(*_cells(figure))
    console.print(table)


def _markdown(examiner: Examiner, parts: Sequence[str]) -> str:
    painter = examiner.painter
    settings = examiner.settings
    drawn = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in asdict(settings).items())
    low, high = painter.decoder.config.diffusion.sampling.guidance_interval
    numbers = f"--pictures {examiner.count} --size {settings.size} --seed {examiner.seed}"
    options = " ".join([*parts, numbers])
    lines = [
        f"# Evaluation of bundle {painter.version}",
        "",
        f'`make evaluate EVALUATE="{options}"`; {drawn}, decoder guidance interval {low:g}-{high:g}.',
    ]
    findings = examiner.findings
    if findings.figures:
        lines += ["", _line(HEADINGS), "|" + "---|" * len(HEADINGS)]
    lines += [_line(_cells(figure)) for figure in findings.figures]
    for name, items in findings.lists.items():
        lines += ["", f"## {name}", "", *[f"* {item}" for item in items]]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(figure: Figure) -> tuple[str, ...]:
    """A figure as texts, in the order of HEADINGS."""
    noise = f" ± {100 * figure.noise:.1f}" if figure.noise else ""
    value = _number(figure, figure.value) + noise
    return figure.name, value, _number(figure, figure.real), goal_of(figure), str(figure.pictures)


def _number(figure: Figure, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if figure.is_share else f"{value:.4g}"


def goal_of(figure: Figure) -> str:
    """A figure's goal and whether it is met, in words."""
    if figure.met is None:
        return "-"
    met = "met" if figure.met else "not met"
    low = "" if figure.at_least is None else f">= {_number(figure, figure.at_least)}"
    high = "" if figure.at_most is None else f"<= {_number(figure, figure.at_most)}"
    return f"{' and '.join(filter(None, (low, high)))}, {met}"


def _save_sheet(out: Path, sheet: Sheet) -> None:
    """Save pictures in rows, all of one height."""
    tiles = [Image.fromarray(np.asarray(p)) for p in sheet.pictures]
    tiles = [t.resize((round(t.width * TILE / t.height), TILE), Image.Resampling.LANCZOS) for t in tiles]
    columns = sheet.columns
    canvas = Image.new("RGB", (columns * tiles[0].width, -(-len(tiles) // columns) * TILE), "white")
    for i, tile in enumerate(tiles):
        canvas.paste(tile, (i % columns * tile.width, i // columns * TILE))
    canvas.save(out / f"{sheet.name}.webp", quality=QUALITY, method=6)
