"""Convert pickled weights to safetensors: ``python -m services.bundles.convert SOURCE TARGET``."""

from __future__ import annotations

import io
import resource
from pathlib import Path
from typing import BinaryIO

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
    partial = target.with_name(f".{target.name}.partial")
    try:
        with source.open("rb") as read, partial.open("xb") as write:
            confine()
            write.write(save(_tensors(read)))
        partial.rename(target)
    except FileExistsError:
        raise click.ClickException(f"{partial} is there already") from None
    except Exception as error:
        partial.unlink(missing_ok=True)
        raise click.ClickException(f"{type(error).__name__}: {error}") from None
    click.echo(f"wrote {target}")


def _tensors(file: BinaryIO) -> dict[str, torch.Tensor]:
    state = torch.load(file, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    return {k: value.clone().contiguous() for k, value in state.items() if isinstance(value, torch.Tensor)}


def confine() -> None:
    """Let this process open nothing from here on."""
    warm = io.BytesIO()
    torch.save({"weight": torch.zeros(1)}, warm)  # what reading imports is imported before
    torch.load(io.BytesIO(warm.getvalue()), weights_only=True)
    save({"weight": torch.zeros(1)})
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


if __name__ == "__main__":
    convert()
