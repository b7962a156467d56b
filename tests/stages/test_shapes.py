"""Shapes of a latent decoder: what shares a call, and what the engine and its metrics call it."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from services.bundles.bundle import Bundle
from services.decoder.sampler import PARTS, DecoderSampler
from services.engine import Segment
from services.importing.__main__ import main
from tests.importing.checkpoints import kandinsky_decoder, kandinsky_prior, seeded


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> DecoderSampler:
    seeded()
    folder = tmp_path_factory.mktemp("kandinsky")
    kandinsky_prior(folder / "prior")
    kandinsky_decoder(folder / "decoder")
    asked = [str(folder / name) for name in ("prior", "decoder", "bundle")]
    assert CliRunner().invoke(main, asked).exit_code == 0
    return DecoderSampler(Bundle(folder / "bundle", *PARTS))


def plan(sampler: DecoderSampler, height: int, width: int) -> Segment:
    asked: dict[str, Any] = {"steps": 4, "guidance": 4.0, "upsampler_steps": 1, "similarity": 0.0}
    (segment,) = sampler.plan(**asked, shape=(height, width), context=0, edits=False)
    return segment


def test_only_rows_of_one_shape_share_a_call(sampler: DecoderSampler) -> None:
    assert plan(sampler, 512, 768).shape != plan(sampler, 768, 512).shape
    assert plan(sampler, 512, 768) == plan(sampler, 512, 768)


def test_what_callers_ask_for_names_no_new_networks(sampler: DecoderSampler) -> None:
    """Names become labels of metrics and costs that are told with every message: they are bounded."""
    shapes = [(h, w) for h in range(256, 2049, 64) for w in range(256, 2049, 64)]
    drawn = [shape for shape in shapes if shape[0] == shape[1] <= 1024 or sampler.config.draws(*shape)]
    assert len(drawn) > 300
    names = {plan(sampler, *shape).network for shape in drawn}
    assert names == {"decoder", *(f"decoder-{side}" for side in range(256, 1025, 64) if side != 512)}
    assert {sampler.side_of(name) for name in names} == set(range(256, 1025, 64))


def test_a_shape_costs_what_the_square_of_its_pixels_does(sampler: DecoderSampler) -> None:
    assert plan(sampler, 512, 768).network == plan(sampler, 640, 640).network
