"""Karlo imported from its real layout, and drawn with by our stages as its own pipeline draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from services.bundles.bundle import Bundle
from services.decoder.sampler import PARTS, DecoderSampler
from services.decoder.tasks import DecoderTask
from services.diffusion.noise import generator_for
from services.diffusion.pixels import to_pixels
from services.importing.__main__ import main
from services.prior.sampler import PriorConditioning, PriorSampler
from tests.importing.checkpoints import DIM, exact, karlo, seeded
from tests.importing.test_kandinsky import PROMPT, SEED, texts

SIDES = (16, 64)


@torch.inference_mode()
def test_the_whole_pipeline_draws_what_the_reference_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.bundles.weights.best_dtype", lambda device: torch.float32)
    seeded()
    reference: Any = karlo(tmp_path / "karlo")
    for name in ("prior", "decoder", "super_res"):
        exact(getattr(reference, f"{name}_scheduler"))
    bundle = tmp_path / "bundle"
    asked = [str(tmp_path / "variations"), str(tmp_path / "karlo"), str(bundle)]
    result = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output

    prior = PriorSampler(Bundle(bundle, "prior"), call_size=0)
    text, unconditional = texts(bundle)
    drawn = prior.start(PriorConditioning(text, unconditional), seed=SEED, candidate=0, steps=5, guidance=4.0)
    while not drawn.finished:
        prior.advance([drawn])
    embedding, _ = prior.best([drawn])
    decoder = DecoderSampler(Bundle(bundle, *PARTS))
    task = DecoderTask(
        context=decoder.project(embedding, text.embedding, text.states, text.mask),
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
        size=SIDES[1],
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

    # Each of our stages has noise of its own; the reference draws all of it from one generator.
    generators = {
        (1, DIM): generator_for(SEED, "prior", 0),
        (1, 3, SIDES[0], SIDES[0]): generator_for(SEED, "decoder"),
        (1, 3, SIDES[1], SIDES[1]): generator_for(SEED, "upsampler-64"),
    }

    def noise(shape: Any, **_: Any) -> Tensor:
        return torch.randn(tuple(shape), generator=generators[tuple(shape)])

    monkeypatch.setattr("diffusers.schedulers.scheduling_unclip.randn_tensor", noise)
    latents = [noise(shape) for shape in generators]
    theirs = reference(
        PROMPT,
        prior_num_inference_steps=5,
        decoder_num_inference_steps=5,
        super_res_num_inference_steps=7,
        prior_latents=latents[0],
        decoder_latents=latents[1],
        super_res_latents=latents[2],
        prior_guidance_scale=4.0,
        decoder_guidance_scale=8.0,
        output_type="np",
    ).images[0]
    ours = to_pixels(row.result).numpy()
    assert np.abs(ours.astype(int) - (255 * theirs).round().astype(int)).max() <= 1
