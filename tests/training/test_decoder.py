"""What the decoder is trained to get right: objects whatever their size, and what CLIP sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.training.corpus import scene_at
from services.training.decoder import OBJECT, object_weights
from services.training.embedder import Embedder, to_signal
from services.training.scenes import render

MODELS = Path(__file__).parents[2] / "models"


def test_small_objects_weigh_as_much_as_large_ones() -> None:
    scenes = [scene_at(i) for i in range(40)]
    weights = object_weights(scenes, 64)
    for weight, scene in zip(weights, scenes, strict=True):
        if all(p.side / 2 <= c <= 1 - p.side / 2 for p in scene.placements for c in (p.x, p.y)):
            assert float(weight.mean()) == pytest.approx(1 + OBJECT * len(scene.objects), rel=0.05)
        assert float(weight.min()) == 1


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tmp_path_factory.mktemp("training")
    (folder / "bundle").symlink_to(MODELS)
    return Embedder(folder)


def test_what_clip_sees_tells_pictures_apart_and_has_a_gradient(embedder: Embedder) -> None:
    real = to_signal(np.stack([render(scene_at(i), 64) for i in range(8)]))

    def distance(made: torch.Tensor) -> torch.Tensor:
        return embedder.perceptual_distance(made, real, np.random.default_rng(1))

    near, far = real + 0.1 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0)), real.flip(0)
    assert float(distance(real)) == pytest.approx(0, abs=1e-4)
    assert 0 < float(distance(near)) < float(distance(far)) / 2
    far.requires_grad_()
    before = distance(far)
    (gradient,) = torch.autograd.grad(before, far)
    assert distance(far - 0.1 * gradient / gradient.abs().max()) < before
