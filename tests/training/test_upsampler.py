"""What upsamplers are given fits what they make; the features that pictures are compared in."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F

from services.diffusion.pixels import to_signal
from services.training.data.corpus import Corpus, scene_at
from services.training.data.scenes import render
from services.training.features import CHANNELS, EfficientNetLite0
from services.training.recipes.upsampler import UPSAMPLERS


class Scenes:
    """A corpus of a few scenes."""

    def __init__(self, count: int, side: int) -> None:
        self.count = count
        self.pictures = np.stack([render(scene_at(i), side) for i in range(count)])

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.integers(0, self.count, count)


def test_crops_at_low_resolution_are_of_the_same_places() -> None:
    corpus = Scenes(4, 256)
    upsampling = UPSAMPLERS[0]
    full, low = upsampling.draw_crops(cast(Corpus, corpus), np.random.default_rng(0), 16)
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
