"""Average one stage's weights over releases of a bundle: ``python -m services.training.average OUT OLD NEW...``."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file

from services.bundles.bundle import Bundle, BundleError, write_manifest


def average(weights: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of each tensor over the safetensors ``weights``, summed in float32, in the dtype of the last one.

    Runs that went on from one another lie in one basin, and their mean often does better than each of them
    (stochastic weight averaging, Izmailov et al. 2018, section 3.1; model soups, Wortsman et al. 2022, "uniform soup").
    Raises BundleError where names or shapes differ: such networks have no mean.
    """
    tensors = [load_file(file) for file in weights]
    shapes = [{name: value.shape for name, value in network.items()} for network in tensors]
    for file, other in zip(weights, shapes, strict=True):
        if other != shapes[-1]:
            raise BundleError(
                f"{file} is another network than {weights[-1]}: names or shapes of its tensors differ"
            )
    means = {
        name: torch.stack([network[name].float() for network in tensors]).mean(0) for name in tensors[-1]
    }
    return {name: mean.to(tensors[-1][name].dtype) for name, mean in means.items()}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument(
    "bundles", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--stage", default="decoder", show_default=True, help="Whose weights are averaged.")
@click.option("--version", default="0", show_default=True, help="Of the new bundle, for its manifest.")
def main(out: Path, bundles: tuple[Path, ...], stage: str, version: str) -> None:
    """Write to OUT the last of BUNDLES, with the mean of all of BUNDLES as the weights of one stage."""
    if out.exists():
        raise click.BadParameter(f"{out} exists already; name a new folder", param_hint="OUT")
    try:
        opened = [Bundle(bundle.resolve(), stage) for bundle in bundles]
        mean = average([bundle.weights(stage) for bundle in opened])
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    shutil.copytree(bundles[-1], out)
    save_file(mean, out / stage / "model.safetensors")
    write_manifest(out, opened[-1].manifest.name, version, opened[-1].manifest.licences)


if __name__ == "__main__":
    main()
