"""What the decoder's last recipe teaches: at the noisy end, what the decoder predicts when it is guided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.decoder.network import MASK_CHANNELS, DecoderConfig
from services.diffusion.pixels import to_signal
from services.training.data.corpus import scene_at
from services.training.data.scenes import render
from services.training.recipes.decoder import CONFIG
from services.training.recipes.embedder import Embedder
from services.training.recipes.sharpening import GUIDANCE, SHARPENED_CONFIG, guided_target, load_teacher

MODELS = Path(__file__).parents[2] / "models"
COUNT = 3


@pytest.mark.parametrize(("config", "scale"), [(CONFIG, GUIDANCE), (SHARPENED_CONFIG, 1.0)])
def test_the_target_is_the_prediction_with_guidance_of_what_the_decoder_is_now(
    config: DecoderConfig, scale: float, tmp_path: Path
) -> None:
    """One that has its guidance distilled in already is its own target."""
    (tmp_path / "bundle").symlink_to(MODELS)
    embedder = Embedder(tmp_path)
    teacher = load_teacher(MODELS / "decoder")
    teacher.config = config
    scenes = [scene_at(i) for i in range(COUNT)]
    pictures = np.stack([render(s, 64) for s in scenes])
    x0 = to_signal(torch.from_numpy(pictures))
    x = 0.5 * x0 + 0.75**0.5 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    t = torch.full((COUNT,), 710)
    text = embedder.text([s.caption for s in scenes])
    given = (torch.zeros(COUNT, MASK_CHANNELS, 64, 64), embedder.image(pictures), *text)
    nothing = (teacher.conditioning.null_image[None], *embedder.text([""]))

    target = guided_target(teacher, x, t, given, nothing)
    blank = [part.expand(COUNT, *part.shape[1:]) for part in nothing]
    with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16):
        conditional = teacher(x, t, *given).float()
        unconditional = teacher(x, t, given[0], *blank).float()
    expected = (scale * conditional + (1 - scale) * unconditional).clamp(-1, 1)
    torch.testing.assert_close(target, expected)
    assert (conditional - unconditional).abs().mean() > 0.01
