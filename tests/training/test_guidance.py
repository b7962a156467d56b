"""What the decoder learns when guidance is distilled: to predict at once what it predicted when guided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.decoder.network import MASK_CHANNELS, Decoder, DecoderConfig
from services.diffusion.pixels import to_signal
from services.training.data.corpus import Corpus, scene_at
from services.training.data.scenes import render
from services.training.recipes.decoder import CONFIG, Batches, noisy_timesteps
from services.training.recipes.embedder import Embedder
from services.training.recipes.guidance import (
    DISTILLED_CONFIG,
    GUIDANCE,
    GUIDED_FROM,
    UNGUIDED,
    load_teacher,
    predictions,
    timesteps,
)

MODELS = Path(__file__).parents[2] / "models"
COUNT = 3


@pytest.fixture(scope="module")
def teacher() -> Decoder:
    return load_teacher(MODELS / "decoder")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(MODELS)


@pytest.mark.parametrize(("config", "scale"), [(CONFIG, GUIDANCE), (DISTILLED_CONFIG, 1.0)])
def test_the_target_is_the_prediction_with_guidance_of_what_the_decoder_is_now(
    teacher: Decoder, embedder: Embedder, config: DecoderConfig, scale: float
) -> None:
    """One that has its guidance distilled in already is its own target."""
    teacher.config = config
    scenes = [scene_at(i) for i in range(COUNT)]
    pictures = np.stack([render(s, 64) for s in scenes])
    x0 = to_signal(torch.from_numpy(pictures))
    x = 0.5 * x0 + 0.75**0.5 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    t = torch.full((COUNT,), 710)
    text = embedder.text([s.caption for s in scenes])
    given = (torch.zeros(COUNT, MASK_CHANNELS, 64, 64), embedder.image(pictures), *text)
    nothing = (teacher.conditioning.null_image[None], *embedder.text([""]))

    guided, alone = predictions(teacher, x, t, given, nothing)
    blank = [part.expand(COUNT, *part.shape[1:]) for part in nothing]
    with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16):
        conditional = teacher(x, t, *given).float()
        unconditional = teacher(x, t, given[0], *blank).float()
    torch.testing.assert_close(alone, conditional)
    expected = (scale * conditional + (1 - scale) * unconditional).clamp(-1, 1)
    torch.testing.assert_close(guided, expected)
    assert (conditional - unconditional).abs().mean() > 0.01


def test_the_first_timesteps_are_those_without_guidance_and_all_are_as_likely_as_ever() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([timesteps(64, 16, generator) for _ in range(500)])
    assert (drawn[:, :16] < GUIDED_FROM).all()
    assert (drawn[:, 16:] >= GUIDED_FROM - 1).all()
    plain = noisy_timesteps(torch.rand(32_000, generator=generator))
    assert drawn.float().mean() == pytest.approx(float(plain.float().mean()), rel=0.01)
    assert (plain < GUIDED_FROM).float().mean() == pytest.approx(UNGUIDED, abs=0.01)


def test_a_batch_is_a_function_of_its_number(embedder: Embedder, teacher: Decoder, tmp_path: Path) -> None:
    batches = Batches(Corpus(tmp_path, 1024), embedder, 8)
    one, again, other = (batches.draw(teacher, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.x0, again.x0)
    assert all(torch.equal(a, b) for a, b in zip(one.given, again.given, strict=True))
    assert not torch.equal(one.x0, other.x0)
    t = torch.full((8,), 500)
    assert float(one.error(one.x0, one.x0, t)) == 0
    assert float(one.error(one.x0 + 0.1, one.x0, t)) > 0
