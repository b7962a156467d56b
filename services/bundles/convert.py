"""Convert pickled weights to safetensors: ``python -m services.bundles.convert SOURCE TARGET``."""

from __future__ import annotations

from pathlib import Path

import click
import torch
from safetensors.torch import save_file


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def convert(source: Path, target: Path) -> None:
    """Read tensors from SOURCE without running any code in it, and write them to TARGET as safetensors."""
    state = torch.load(source, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, target)
    click.echo(f"wrote {target}")


if __name__ == "__main__":
    convert()
