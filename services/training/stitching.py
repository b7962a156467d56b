"""Make a decoder take another CLIP's embeddings: ``python -m services.training.stitching FROM CLIP OUT``.

Model stitching (arXiv 2106.07682): affine maps from the other CLIP's embeddings and token states to those
that the decoder was trained with are found by least squares on scenes, and folded into the layers that take
them. So a CLIP that has learnt more words need not cost what the decoder has learnt.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import torch
from torch import Tensor, nn

from services.bundles.bundle import ROOT
from services.bundles.weights import load_weights
from services.decoder.conditioning import Conditioning
from services.decoder.network import Decoder, DecoderConfig
from services.training.data.corpus import Corpus
from services.training.loop import console
from services.training.recipes.embedder import Embedder, embed
from services.training.recipes.export import save_part

SCENES = 8192
TESTED = 0.1  # share of the examples that a map is not found on, but told by
RIDGE = 1e-3


class AffineMap(NamedTuple):
    """y = x M + b. matrix: (D, E). bias: (E,)."""

    matrix: Tensor
    bias: Tensor


def fit(x: Tensor, y: Tensor) -> tuple[AffineMap, float]:
    """The map from x, (N, D), to y, (N, E), by least squares.

    Also the share of the variance of y that it leaves unexplained, on examples that it was not found on.
    """
    x = x.double()
    y = y.double()
    end = round((1 - TESTED) * len(x))
    mean_x = x[:end].mean(0)
    mean_y = y[:end].mean(0)
    centred = x[:end] - mean_x
    ridge = RIDGE * centred.square().sum(0).mean() * torch.eye(x.shape[1], dtype=x.dtype)
    matrix = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (y[:end] - mean_y))
    bias = mean_y - mean_x @ matrix
    left = (y[end:] - x[end:] @ matrix - bias).square().sum() / (y[end:] - mean_y).square().sum()
    return AffineMap(matrix.float(), bias.float()), float(left)


@torch.no_grad()
def fold(layer: nn.Linear, found: AffineMap) -> None:
    """Put a map before a layer."""
    layer.bias.add_(layer.weight @ found.bias)
    layer.weight.copy_(layer.weight @ found.matrix.T)


@torch.no_grad()
def stitch(conditioning: Conditioning, image: AffineMap, text: AffineMap, states: AffineMap) -> None:
    """Put maps before all that a decoder is given. Its null embedding becomes one that is mapped to it."""
    null = (conditioning.null_image - image.bias).double()
    solved = torch.linalg.lstsq(image.matrix.T.double(), null[:, None]).solution[:, 0]
    conditioning.null_image.copy_(solved.float())
    fold(conditioning.image_to_time, image)
    fold(conditioning.image_to_tokens, image)
    fold(conditioning.text_to_time, text)
    fold(conditioning.text_to_context, states)


def embedded(embedder: Embedder, corpus: Corpus) -> Sequence[Tensor]:
    """Of the corpus' scenes: images (N, D), texts (N, D), and the states of all their real tokens (T, W)."""
    images, texts, states, masks = (torch.cat(parts) for parts in zip(*embed(corpus, embedder), strict=True))
    return images, texts, states[masks]


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("clip", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--scenes", type=click.IntRange(1024), default=SCENES, show_default=True)
@click.option(
    "--training",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "out/training",
    show_default="out/training",
    help="Where the corpus is, or is made.",
)
def main(source: Path, clip: Path, out: Path, scenes: int, training: Path) -> None:
    """Write the decoder of the bundle SOURCE, for the CLIP of the bundle CLIP, as ``decoder`` into OUT."""
    corpus = Corpus(training, scenes)
    before = embedded(Embedder(source), corpus)
    after = embedded(Embedder(clip), corpus)
    maps = []
    for name, x, y in zip(("images", "texts", "token states"), after, before, strict=True):
        found, left = fit(x, y)
        maps.append(found)
        console.print(f"{name}: {100 * left:.1f} % of the variance left unexplained", highlight=False)
    part = source / "decoder"
    config = DecoderConfig.model_validate_json((part / "config.json").read_text())
    model = load_weights(Decoder(config), part / "model.safetensors").float()
    if not isinstance(model.conditioning, Conditioning):
        raise click.BadParameter("has a decoder that takes no text", param_hint="SOURCE")
    stitch(model.conditioning, *maps)
    shutil.rmtree(out / "decoder", ignore_errors=True)
    save_part(model, config, out / "decoder")


if __name__ == "__main__":
    main()
