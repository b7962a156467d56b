"""Convert pickled weights to safetensors: ``python -m services.bundles.convert SOURCE TARGET``."""

from __future__ import annotations

import io
import resource
from pathlib import Path

import click
import torch
from safetensors.torch import save


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def convert(source: Path, target: Path) -> None:
    """Read tensors from SOURCE, and write them to TARGET as safetensors.

    No code in SOURCE is run; and while it is read this process can open nothing: no file, no connection.
    """
    partial = target.with_suffix(".partial")
    with source.open("rb") as read, partial.open("wb") as write:
        confine()
        state = torch.load(read, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        write.write(save({name: value.clone().contiguous() for name, value in tensors.items()}))
    partial.rename(target)
    click.echo(f"wrote {target}")


def confine() -> None:
    """Let this process open nothing from here on."""
    warm = io.BytesIO()
    torch.save({"weight": torch.zeros(1)}, warm)  # what reading imports is imported before
    torch.load(io.BytesIO(warm.getvalue()), weights_only=True)
    save({"weight": torch.zeros(1)})
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


if __name__ == "__main__":
    convert()
