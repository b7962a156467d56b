"""Kandinsky 2.2 imported from its real layout, and drawn with by our stages as its own pipelines draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import KandinskyV22InpaintPipeline
from PIL import Image
from torch import Tensor

from services.bundles.bundle import Bundle
from services.bundles.clip import load_text_tower
from services.bundles.clip_source import ClipSource
from services.bundles.weights import read_tensors
from services.decoder.sampler import PARTS, DecoderSampler
from services.decoder.tasks import DecoderTask, Picture
from services.diffusion.noise import generator_for
from services.diffusion.pixels import to_pixels, to_signal
from services.importing.__main__ import main
from services.prior.sampler import PriorSampler, Text
from services.text_encoder.encoder import TextEncoder
from tests.closeness import assert_within
from tests.importing.checkpoints import DIM, kandinsky_decoder, kandinsky_prior, seeded

SEED = 5
PROMPT = "a red fox in the snow"
IMAGE = torch.randn(DIM, generator=torch.Generator().manual_seed(1))  # an embedding


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the reference computes, whatever the machine is best at."""
    monkeypatch.setattr("services.bundles.weights.best_dtype", lambda device: torch.float32)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    seeded()
    folder = tmp_path_factory.mktemp("kandinsky")
    prior = kandinsky_prior(folder / "prior")
    decoder = kandinsky_decoder(folder / "decoder")
    kandinsky_decoder(folder / "inpaint", in_channels=9)
    names = ("inpaint", "decoder", "prior", "bundle")
    asked = [str(folder / name) for name in names]
    result = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / "bundle", prior, decoder


def texts(bundle: Path) -> tuple[Text, Text]:
    encoder = TextEncoder(load_text_tower(ClipSource(bundle=str(bundle)), 2))
    found = encoder.encode([PROMPT, ""])
    parts = [
        Text(torch.from_numpy(t.embedding), torch.from_numpy(t.states), torch.from_numpy(t.mask))
        for t in found
    ]
    return parts[0], parts[1]


@torch.inference_mode()
def test_the_prior_draws_what_the_reference_draws(pipelines: tuple[Path, Any, Any]) -> None:
    bundle, reference, _ = pipelines
    sampler = PriorSampler(Bundle(bundle, "prior"))
    row = sampler.start(sampler.project(*texts(bundle)), seed=SEED, candidate=0, steps=7, guidance=4.0)
    while not row.finished:
        sampler.advance([row])
    embedding, _ = sampler.best([row])
    generator = generator_for(SEED, "prior", 0)
    latents = torch.randn(DIM, generator=generator)[None]
    theirs = reference(
        PROMPT, num_inference_steps=7, guidance_scale=4.0, generator=generator, latents=latents
    )
    assert_within(embedding, theirs.image_embeds[0], 1e-4, relative=True)
    (null,) = read_tensors(Bundle(bundle, "decoder").weights("decoder"), "conditioning.null_image")
    assert_within(null, theirs.negative_image_embeds[0], 1e-5, relative=True)


def task(sampler: DecoderSampler, side: int, known: Picture | None = None) -> DecoderTask:
    """Five steps towards IMAGE."""
    nothing: Tensor = torch.empty(0)
    edits = known is not None
    return DecoderTask(
        context=sampler.project(IMAGE, nothing, nothing, nothing, edits=edits),
        unconditional=sampler.project(None, nothing, nothing, nothing, edits=edits),
        seed=SEED,
        steps=5,
        guidance=4.0,
        upsampler_steps=1,
        size=side,
        known=known,
    )


@pytest.mark.parametrize("side", [256, 320])
@torch.inference_mode()
def test_the_decoder_draws_what_the_reference_draws(pipelines: tuple[Path, Any, Any], side: int) -> None:
    bundle, prior, reference = pipelines
    sampler = DecoderSampler(Bundle(bundle, *PARTS))
    row = sampler.start(task(sampler, side))
    previews = []
    while not row.finished:
        sampler.advance([row])
        assert row.x0 is not None
        previews.append(sampler.space.preview(row.x0))
    assert row.result is not None
    generator = generator_for(SEED, "decoder")
    latents = torch.randn((4, side // 8, side // 8), generator=generator)[None]
    negative = prior("", num_inference_steps=2).negative_image_embeds
    theirs = reference(
        IMAGE[None],
        negative,
        height=side,
        width=side,
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=generator,
        latents=latents,
        output_type="np",
    ).images[0]
    ours = to_pixels(row.result).numpy()
    assert_within(ours, (255 * theirs).round(), 1)
    assert previews[0].shape == (3, side // 8, side // 8)


@torch.inference_mode()
def test_the_inpainting_decoder_paints_what_the_reference_paints(pipelines: tuple[Path, Any, Any]) -> None:
    bundle, prior, _ = pipelines
    reference = KandinskyV22InpaintPipeline.from_pretrained(bundle.parent / "inpaint")
    reference.movq = pipelines[2].movq  # the bundle has one for both, as the published ones are the same
    sampler = DecoderSampler(Bundle(bundle, *PARTS))
    pixels = np.random.default_rng(3).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((8, 8)).resize((256, 256), Image.Resampling.BICUBIC))
    keep = np.ones((256, 256), np.float32)
    keep[64:160, 96:200] = 0
    known = Picture(to_signal(torch.from_numpy(pixels.copy())), torch.from_numpy(keep)[None])
    row = sampler.start(task(sampler, 256, known))
    assert row.network == "decoder-inpaint-256"
    while not row.finished:
        sampler.advance([row])
    assert row.result is not None
    generator = generator_for(SEED, "decoder")
    latents = torch.randn((4, 32, 32), generator=generator)[None]
    theirs = reference(
        IMAGE[None],
        Image.fromarray(pixels),
        1 - keep,
        prior("", num_inference_steps=2).negative_image_embeds,
        height=256,
        width=256,
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=generator,
        latents=latents,
        output_type="np",
    ).images[0]
    ours = to_pixels(row.result).numpy()
    assert_within(ours, (255 * theirs).round(), 1)
