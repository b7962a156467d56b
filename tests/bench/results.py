"""What a benchmark found: a table on the terminal, and the same figures in out/bench, with the machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from services.bundles.bundle import ROOT
from tests.bench.machine import describe_machine


def show(rows: Sequence[Any], title: str = "") -> None:
    """A table of dataclasses, a line each."""
    table = Table(*(name.replace("_", " ") for name in asdict(rows[0])), title=title or None)
    for row in rows:
        table.add_row(*(str(value) for value in asdict(row).values()))
    Console(width=140).print(table)


def keep(name: str, **figures: Any) -> None:
    """Write out/bench/NAME.json."""
    target = ROOT / f"out/bench/{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"machine": describe_machine(), **figures}, indent=2) + "\n")
