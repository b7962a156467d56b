"""Pixels and signals: there and back without loss."""

from __future__ import annotations

import torch

from services.diffusion.pixels import to_pixels, to_signal


def test_every_value_survives_the_way_there_and_back() -> None:
    pixels = torch.arange(256 * 3, dtype=torch.int64).remainder(256).byte().view(2, 16, 8, 3)
    signal = to_signal(pixels)
    assert signal.shape == (2, 3, 16, 8)
    assert signal.dtype == torch.float32
    assert (float(signal.min()), float(signal.max())) == (-1, 1)
    assert torch.equal(to_pixels(signal), pixels)


def test_what_is_out_of_range_is_clipped() -> None:
    signal = torch.tensor([-1.5, 0.0, 1.5]).view(3, 1, 1)
    assert to_pixels(signal).flatten().tolist() == [0, 128, 255]
