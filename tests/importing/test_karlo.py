"""Karlo imported from its real layout: which network takes which step. test_served.py compares pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from click.testing import CliRunner

from services.bundles.bundle import Bundle
from services.decoder.sampler import PARTS, DecoderSampler
from services.decoder.tasks import DecoderTask
from services.importing.__main__ import main
from tests.importing.checkpoints import karlo, seeded
from tests.importing.test_kandinsky import IMAGE, SEED, texts

SIDES = (16, 64)


@torch.inference_mode()
def test_another_network_takes_the_last_step(tmp_path: Path) -> None:
    seeded()
    karlo(tmp_path / "karlo")
    bundle = tmp_path / "bundle"
    asked = [str(tmp_path / "variations"), str(tmp_path / "karlo"), str(bundle)]
    result = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output

    decoder = DecoderSampler(Bundle(bundle, *PARTS))
    text, unconditional = texts(bundle)
    task = DecoderTask(
        context=decoder.project(IMAGE, text.embedding, text.states, text.mask),
        unconditional=decoder.project(
            None, unconditional.embedding, unconditional.states, unconditional.mask
        ),
        seed=SEED,
        steps=5,
        guidance=8.0,
        upsampler_steps=7,
        size=SIDES[1],
    )
    row = decoder.start(task)
    networks = []
    while not row.finished:
        networks.append(row.network)
        decoder.advance([row])
    assert networks == ["decoder"] * 5 + ["upsampler-64"] * 6 + ["last-64"]
    plan = decoder.plan(
        steps=5,
        guidance=8.0,
        upsampler_steps=7,
        shape=(SIDES[1], SIDES[1]),
        similarity=0.0,
        context=77,
        edits=False,
    )
    assert [(segment.network, segment.steps) for segment in plan] == [
        ("decoder", 5),
        ("upsampler-64", 6),
        ("last-64", 1),
    ]
    assert row.result is not None
