"""Painted colours meet the known ones at a hole's border, and only there."""

from __future__ import annotations

import torch

from services.decoder.known_pixels import KnownPixels

SIDE = 64


def half(known_columns: int) -> torch.Tensor:
    keep = torch.zeros(1, SIDE, SIDE)
    keep[:, :, :known_columns] = 1
    return keep


def test_a_step_in_colour_becomes_a_ramp_inside_the_hole() -> None:
    known = torch.full((3, SIDE, SIDE), 0.2)
    painted = torch.full((3, SIDE, SIDE), 0.5)
    made = KnownPixels(known, half(32)).imposed(painted)
    rises = made.diff(dim=2)
    assert (rises >= 0).all()
    assert rises.max() < 0.05  # of the step of 0.3
    assert torch.equal(made[:, :, :32], known[:, :, :32])
    assert made[:, :, 63].mean() > 0.45


def test_streaks_that_end_at_the_border_fade_into_the_hole() -> None:
    known = torch.linspace(0, 40, SIDE).sin()[None, :, None].expand(3, SIDE, SIDE)
    made = KnownPixels(known, half(32)).imposed(torch.zeros(3, SIDE, SIDE))
    contrast = made.abs().mean((0, 1))
    assert (contrast[32:].diff() < 0).all()
    assert contrast[32] > 0.5 * contrast[31]
    assert contrast[40] < 0.1 * contrast[31]


def test_texture_stays() -> None:
    grain = 0.1 * torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    known = torch.full((3, SIDE, SIDE), 0.2)
    made = KnownPixels(known, half(32)).imposed(0.5 + grain)
    assert made[:, :, 34:].std(1).mean() > 0.9 * grain.std()


def test_a_stripe_at_the_border_does_not_dye_the_next_ones() -> None:
    stripes = torch.tensor([0.6, 0.2]).repeat(SIDE // 2).expand(3, SIDE, SIDE)  # they go on across the border
    moved = KnownPixels(stripes, half(32)).imposed(stripes) - stripes
    assert moved[:, :, 36:].abs().max() < 0.15  # of 0.4 between a stripe and the next


def test_a_painted_object_does_not_dye_what_is_around_it() -> None:
    known = torch.full((3, SIDE, SIDE), 0.8)
    painted = known.clone()
    painted[:, 16:48, 40:] = 0
    made = KnownPixels(known, half(32)).imposed(painted)
    assert (made[:, :, 32:40] - 0.8).abs().max() < 0.05


def test_where_nothing_is_known_nothing_changes() -> None:
    painted = torch.full((3, SIDE, SIDE), 0.5)
    assert torch.equal(KnownPixels(torch.zeros(3, SIDE, SIDE), half(0)).imposed(painted), painted)


def test_where_all_is_known_nothing_is_painted() -> None:
    known = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert torch.equal(KnownPixels(known, half(SIDE)).imposed(torch.full((3, SIDE, SIDE), 0.5)), known)
