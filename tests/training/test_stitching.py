"""A decoder that is stitched to another CLIP takes its embeddings as it took those it was trained with."""

from __future__ import annotations

import pytest
import torch

from services.decoder.conditioning import Conditioning, ConditioningConfig
from services.training.stitching import AffineMap, fit, stitch

DIM = 12


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_map_is_found_and_how_much_it_leaves_is_told() -> None:
    x = random(4000, DIM, seed=0)
    matrix, bias = random(DIM, DIM, seed=1), random(DIM, seed=2)
    y = x @ matrix + bias
    found, left = fit(x, y)
    assert left < 1e-3
    torch.testing.assert_close(found.matrix, matrix, atol=0.02, rtol=0.02)
    torch.testing.assert_close(found.bias, bias, atol=0.02, rtol=0.02)
    _, left = fit(x, y + y.std() * random(4000, DIM, seed=3))
    assert left == pytest.approx(0.5, abs=0.05)


def test_what_the_decoder_is_told_stays_the_same() -> None:
    torch.manual_seed(0)
    conditioning = Conditioning(ConditioningConfig(embedding_dim=DIM, text_dim=DIM), 16, DIM)
    with torch.no_grad():
        conditioning.null_image.copy_(random(DIM, seed=4))
    maps = [AffineMap(random(DIM, DIM, seed=10 + i), random(DIM, seed=20 + i)) for i in range(3)]
    new = random(5, DIM, seed=5), random(5, DIM, seed=6), random(5, 7, DIM, seed=7)
    old = [x @ found.matrix + found.bias for x, found in zip(new, maps, strict=True)]
    mask = torch.ones(5, 7, dtype=torch.bool)
    null = conditioning.null_image.clone()
    before = conditioning(*old, mask)
    stitch(conditioning, *maps)
    for one, other in zip(conditioning(*new, mask), before, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    moved = conditioning.null_image @ maps[0].matrix + maps[0].bias
    torch.testing.assert_close(moved, null, atol=1e-3, rtol=1e-3)
