"""What the decoder is trained to get right: objects whatever their size, and what CLIP sees."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from services.decoder.network import Decoder
from services.decoder.unet import UNet, initialise
from services.decoder.unet_config import UNetConfig
from services.diffusion.pixels import to_signal
from services.training.data.corpus import Corpus, scene_at
from services.training.data.scenes import render
from services.training.device import on_device
from services.training.loop import adopt
from services.training.recipes.decoder import (
    CONFIG,
    IMAGINED,
    OBJECT,
    SAID_SIZE,
    Batches,
    draw_shares,
    object_weights,
)
from services.training.recipes.embedder import Embedder, Text
from services.training.recipes.imagining import Imagination

MODELS = Path(__file__).parents[2] / "models"


def test_small_objects_weigh_as_much_as_large_ones() -> None:
    scenes = [scene_at(i) for i in range(40)]
    weights = object_weights(scenes, 64)
    for weight, scene in zip(weights, scenes, strict=True):
        if all(p.side / 2 <= c <= 1 - p.side / 2 for p in scene.placements for c in (p.x, p.y)):
            assert float(weight.mean()) == pytest.approx(1 + OBJECT * len(scene.objects), rel=0.05)
        assert float(weight.min()) == 1


def test_scenes_whose_size_is_said_are_drawn_more_often(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 200)
    said = np.array([bool(scene.size) for scene in corpus.scenes])
    drawn = corpus.draw(np.random.default_rng(0), 20_000, draw_shares(corpus.scenes))
    assert 0 < said.sum() < len(said)
    odds = said[drawn].sum() / (~said[drawn]).sum()
    plain = said.sum() / (~said).sum()
    assert odds / plain == pytest.approx(SAID_SIZE, rel=0.1)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(MODELS)


def test_what_clip_sees_tells_pictures_apart_and_has_a_gradient(embedder: Embedder) -> None:
    real = to_signal(on_device(np.stack([render(scene_at(i), 64) for i in range(8)])))

    def distance(made: torch.Tensor) -> torch.Tensor:
        return embedder.perceptual_distance(made, real, np.random.default_rng(1))

    near = real + 0.1 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    far = real.flip(0)
    assert float(distance(real)) == pytest.approx(0, abs=1e-4)
    assert 0 < float(distance(near)) < float(distance(far)) / 2
    far.requires_grad_()
    before = distance(far)
    (gradient,) = torch.autograd.grad(before, far)
    assert distance(far - 0.1 * gradient / gradient.abs().max()) < before


@pytest.mark.parametrize(("addition", "size"), [("positions", 4), ("detail", 8)])
def test_what_is_added_to_trained_weights_begins_without_effect_and_learns(
    addition: str, size: int, tmp_path: Path
) -> None:
    config = UNetConfig(
        in_channels=3,
        out_channels=3,
        channels=(32,),
        layers_per_level=1,
        attention=(False,),
        mid_attention=False,
        patch_size=2,
    )
    torch.manual_seed(0)
    plain = UNet(config)
    larger = initialise(UNet(config.model_copy(update={addition: size})))
    save_file(plain.state_dict(), tmp_path / "model.safetensors")
    adopt(larger, tmp_path)
    x = torch.randn(2, 3, 8, 8)
    t = torch.tensor([10, 900])
    assert torch.equal(larger(x, t), plain(x, t))

    added = [p for name, p in larger.named_parameters() if name.startswith(addition)]
    larger(x, t).square().mean().backward()
    with torch.no_grad():
        for parameter in added:
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)
    assert not torch.allclose(larger(x, t), plain(x, t))


class Told(Imagination):
    """Imagines what it is told to."""

    def __init__(self, embedding: float) -> None:
        self._embedding = embedding

    def image(self, text: Text, blank: Text, generator: torch.Generator) -> torch.Tensor:
        del blank, generator
        return torch.full_like(text[0], self._embedding)


@pytest.mark.parametrize("workers", [0, 2])
def test_half_of_the_embeddings_are_imagined_where_there_is_a_caption(
    tmp_path: Path, embedder: Embedder, workers: int
) -> None:
    count = 64
    corpus = Corpus(tmp_path, 128)
    model = Decoder(CONFIG)
    nn.init.constant_(model.conditioning.null_image, 7.0)
    seen = torch.zeros(3)
    with closing(Batches(corpus, embedder, Told(9.0), count, workers)) as batches:
        for number in (4, 5):
            _, image, text, _, _ = batches.take(model, number).given
            blank = embedder.text([""])[0].half().float()
            said = ~torch.isclose(text, blank, atol=1e-2).all(1)
            imagined = (image == 9).all(1)
            left_out = (image == 7).all(1)
            first = torch.arange(count) < IMAGINED * count
            assert torch.equal(imagined, first & said & ~left_out)
            seen += torch.stack([imagined.sum(), left_out.sum(), (~said).sum()])
    assert seen.min() > 0


def test_batches_are_the_same_whoever_draws_them(tmp_path: Path, embedder: Embedder) -> None:
    corpus = Corpus(tmp_path, 128)
    model = Decoder(CONFIG)
    drawn = []
    for workers in (0, 2):
        with closing(Batches(corpus, embedder, Told(1.0), 8, workers)) as batches:
            drawn.append([batches.take(model, number) for number in (2, 3, 9)])
    for one, other in zip(*drawn, strict=True):
        assert torch.equal(one.x0, other.x0)
        assert torch.equal(one.weights, other.weights)
        assert all(map(torch.equal, one.given, other.given))
    assert not torch.equal(drawn[0][0].x0, drawn[0][1].x0)
