"""What a bundle holds: ``python -m services.bundles.show PATH``."""

from __future__ import annotations

import json
import struct
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import click

from services.bundles.bundle import Bundle, BundleError

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I8": 8, "U8": 8, "BOOL": 8}
MIB = 2**20


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(path: Path) -> None:
    """Show what the bundle at PATH holds: its networks, their sizes, and its licences."""
    try:
        bundle = Bundle(path.resolve())
        lines = [line(bundle, part) for part in bundle.parts("*")]
    except (BundleError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{bundle.manifest.name} {bundle.manifest.version}")
    for shown in lines:
        click.echo(shown)
    click.echo("licences:")
    for licence in bundle.manifest.licences:
        click.echo(f"  {licence.subject}: {licence.identifier} ({licence.source})")


def line(bundle: Bundle, part: str) -> str:
    """One part's: its parameters, their types and their bytes."""
    counts: Counter[str] = Counter()
    named = [name for name in sorted(bundle.manifest.files) if name.startswith(f"{part}/")]
    for file in [bundle.path / name for name in named if name.endswith(".safetensors")]:
        for tensor in header(file).values():
            counts[tensor["dtype"]] += prod(tensor["shape"])
    parameters = sum(counts.values()) / 1e6
    size = sum(count * BITS.get(dtype, 32) / 8 for dtype, count in counts.items()) / MIB
    dtypes = ", ".join(sorted(counts)) or "no weights"
    return f"  {part:24} {parameters:10,.1f} million parameters {size:10,.0f} MiB  {dtypes}"


def header(file: Path) -> dict[str, dict[str, Any]]:
    """The names of a safetensors file's tensors, with the ``dtype`` and ``shape`` of each.

    Raises ValueError if it is none.
    """
    with file.open("rb") as stream:
        start = stream.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else file.stat().st_size
        if size > file.stat().st_size - 8:
            raise ValueError(f"{file} is no safetensors file")
        tensors = json.loads(stream.read(size))
    if not isinstance(tensors, dict):
        raise ValueError(f"{file} is no safetensors file")
    tensors.pop("__metadata__", None)
    return tensors


if __name__ == "__main__":
    main()
