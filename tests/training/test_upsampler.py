"""Upsamplers that repair: what they are given fits what they make, and an adversary pulls at them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F

from services.diffusion.pixels import to_signal
from services.training.data.corpus import Corpus, scene_at
from services.training.data.scenes import render
from services.training.features import CHANNELS, EfficientNetLite0
from services.training.recipes.adversary import PATIENCE, Adversary
from services.training.recipes.upsampler import UPSAMPLERS


class Scenes:
    """A corpus of a few scenes."""

    def __init__(self, count: int, side: int) -> None:
        self.count = count
        self.pictures = np.stack([render(scene_at(i), side) for i in range(count)])

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.integers(0, self.count, count)


def test_crops_of_what_the_decoder_leaves_are_of_the_same_places() -> None:
    corpus = Scenes(4, 256)
    small = corpus.pictures.reshape(4, 64, 4, 64, 4, 3).mean((2, 4)).round().astype(np.uint8)
    upsampling = replace(UPSAMPLERS[0], repairs=True)
    full, low = upsampling.draw_crops(cast(Corpus, corpus), small, np.random.default_rng(0), 16)
    assert full.shape == low.shape == (16, 3, upsampling.crop, upsampling.crop)
    means = [F.interpolate(x, scale_factor=1 / 8, mode="area") for x in (full, low)]
    assert (means[0] - means[1]).abs().mean() < 0.05


def test_features_have_their_scales_and_tell_pictures_apart() -> None:
    network = EfficientNetLite0()
    pictures = to_signal(torch.from_numpy(np.stack([render(scene_at(i), 128) for i in range(3)])))
    scales = network.scales(pictures)
    assert [f.shape[1] for f in scales] == list(CHANNELS)
    assert [f.shape[2] for f in scales] == [32, 16, 8, 4]
    features = network(pictures)
    near = network(pictures + 0.005 * torch.randn_like(pictures))
    assert (features - near).norm() < 0.5 * (features[:2] - features[1:]).norm()


def test_the_adversary_pulls_towards_what_is_real_and_leaves_the_losss_value_alone() -> None:
    """The error alone would be content with a blur."""
    torch.manual_seed(0)
    adversary = Adversary(enlarge=1)
    adversary._steps = PATIENCE
    real = to_signal(torch.from_numpy(np.stack([render(scene_at(i), 64) for i in range(4)])))
    blurred = F.avg_pool2d(real, 5, 1, 2)
    network = EfficientNetLite0()
    wanted = network(real)
    made = blurred.clone().requires_grad_()
    for _ in range(12):
        error = (made - 0.98 * blurred).square().mean()
        loss = adversary.balanced(error, made, real)
        assert loss.item() == error.item()
        (gradient,) = torch.autograd.grad(loss, made)
        made = (made - 2 * gradient / gradient.norm()).detach().requires_grad_()
    assert (network(made) - wanted).norm() < (network(blurred) - wanted).norm()
