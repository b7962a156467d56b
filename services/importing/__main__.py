"""``python -m services.importing FOLDER... BUNDLE``: published checkpoints to a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import click
import torch
from pydantic import ValidationError

from services.bundles.bundle import BundleError, write_manifest
from services.importing import kandinsky, karlo
from services.importing.checkpoint import read_pipeline
from services.importing.writing import ECLIPSE, direct_prior
from services.wire.models import PATTERN, is_model_name

FAMILIES = (kandinsky, karlo)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@click.command()
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--dtype", type=click.Choice(list(DTYPES)), default="fp32", show_default=True, help="Of the weights."
)
@click.option("--name", default="", help="What requests call the model.  [default: the family's]")
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Convert weights that are only there as .bin, without running what is in them.",
)
def main(
    folders: tuple[Path, ...],
    bundle: Path,
    name: str,
    dtype: Literal["fp32", "bf16", "fp16"],
    allow_pickle: bool,
) -> None:
    """Write BUNDLE from the folders of downloaded pipelines, in any order."""
    if bundle.exists():
        raise click.UsageError(f"{bundle} exists already")
    if name and not is_model_name(name):
        raise click.BadParameter(f"{name!r} is no name for a model: {PATTERN}", param_hint="--name")
    new = bundle.with_name(f".{bundle.name}.new")
    scratch = bundle.with_name(f".{bundle.name}.converted")
    shutil.rmtree(new, ignore_errors=True)
    try:
        places = [scratch / str(i) if allow_pickle else None for i in range(len(folders))]
        pipelines = [read_pipeline(*given) for given in zip(folders, places, strict=True)]
        family = next((family for family in FAMILIES if family.claims(pipelines)), None)
        if family is None:
            raise BundleError("this is no family that is known: Kandinsky 2.2, Karlo v1")
        family.write(pipelines, new, DTYPES[dtype])
        licences = (*family.LICENCES, ECLIPSE) if direct_prior(pipelines) else family.LICENCES
        write_manifest(new, name or family.NAME, "1", licences)
    except (BundleError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except (ValidationError, TypeError, ValueError, ArithmeticError) as error:
        raise click.ClickException(f"a config says what cannot be: {error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if not (new / "manifest.json").exists():
            shutil.rmtree(new, ignore_errors=True)
    new.rename(bundle)
    click.echo(f"{bundle}: {name or family.NAME}")


if __name__ == "__main__":
    main()
