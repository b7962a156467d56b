"""Painted colours meet the known ones at a hole's border, and only there."""

from __future__ import annotations

import pytest
import torch

from services.decoder.blending import Border

SIDE = 64


def half(known_columns: int) -> torch.Tensor:
    keep = torch.zeros(1, SIDE, SIDE)
    keep[:, :, :known_columns] = 1
    return keep


def test_a_step_in_colour_becomes_a_ramp_inside_the_hole() -> None:
    known, painted = torch.full((3, SIDE, SIDE), 0.2), torch.full((3, SIDE, SIDE), 0.5)
    made = Border(known, half(32)).blended(painted)
    torch.testing.assert_close(made[:, :, 32], known[:, :, 32])
    torch.testing.assert_close(made[:, :, 44:], painted[:, :, 44:])
    torch.testing.assert_close(made[:, :, :32], painted[:, :, :32])
    assert (made[:, :, 33:].diff(dim=2) >= 0).all()


def test_texture_stays() -> None:
    grain = 0.1 * torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    known = torch.full((3, SIDE, SIDE), 0.2)
    made = Border(known, half(32)).blended(0.5 + grain)
    moved = made - grain
    assert float(moved[:, :, 32:34].mean()) == pytest.approx(0.2, abs=0.01)
    assert moved[:, :, 32:34].std() < 0.3 * grain.std()


@pytest.mark.parametrize("keep", [half(0), half(SIDE)], ids=["nothing known", "all known"])
def test_without_a_border_nothing_changes(keep: torch.Tensor) -> None:
    painted, known = torch.full((3, SIDE, SIDE), 0.5), torch.zeros(3, SIDE, SIDE)
    assert torch.equal(Border(known, keep).blended(painted), painted)
