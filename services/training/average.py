"""Average one part's weights over bundles: ``python -m services.training.average OUT OLD NEW...``."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file

from services.bundles.bundle import Bundle, BundleError, write_manifest


def average(weights: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of each tensor over safetensors files, summed in float32, in the dtype of the last file.

    Networks of which each was trained on from the last are close enough to be averaged, and their mean is
    often better than each of them (stochastic weight averaging, Izmailov et al. 2018, section 3.1; the
    uniform soup of Wortsman et al. 2022). Raises BundleError where names or shapes differ.
    """
    tensors = [load_file(file) for file in weights]
    shapes = [{name: value.shape for name, value in network.items()} for network in tensors]
    for file, other in zip(weights, shapes, strict=True):
        if other != shapes[-1]:
            raise BundleError(
                f"{file} is another network than {weights[-1]}: names or shapes of its tensors differ"
            )
    last = tensors[-1]
    means = {name: torch.stack([network[name].float() for network in tensors]).mean(0) for name in last}
    return {name: mean.to(last[name].dtype) for name, mean in means.items()}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument(
    "bundles", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--part", default="decoder", show_default=True, help="Whose weights are averaged.")
@click.option("--version", default="0", show_default=True, help="Of the new bundle, for its manifest.")
def main(out: Path, bundles: tuple[Path, ...], part: str, version: str) -> None:
    """Write to OUT the last of BUNDLES, with the mean over all BUNDLES as the weights of one part."""
    if out.exists():
        raise click.BadParameter(f"{out} exists already; name a new folder", param_hint="OUT")
    try:
        opened = [Bundle(bundle.resolve(), part) for bundle in bundles]
        mean = average([bundle.weights(part) for bundle in opened])
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    shutil.copytree(bundles[-1], out)
    save_file(mean, out / part / "model.safetensors")
    write_manifest(out, opened[-1].manifest.name, version, opened[-1].manifest.licences)


if __name__ == "__main__":
    main()
