"""Pictures to look at while the decoder is trained: real scenes, and what it makes of their embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from services.bundles.weights import best_device
from services.decoder.network import Decoder
from services.diffusion.pixels import to_pixels
from services.diffusion.schedule import spaced_timesteps
from services.training.data.scenes import render, sample_scene
from services.training.recipes.drawing import blank_condition, draw
from services.training.recipes.embedder import Embedder

COUNT = 16
COLUMNS = 8
STEPS = 12
GUIDANCE = 3.0


@torch.no_grad()
def save_grid(model: Decoder, embedder: Embedder, path: Path) -> None:
    """Save a grid of scenes, and below each the picture that is drawn from its caption and its embedding."""
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng) for _ in range(COUNT)]
    real = np.stack([render(s, model.config.side) for s in scenes])
    condition = (embedder.image(real), *embedder.text([s.caption for s in scenes]))
    side = model.config.side
    x = torch.randn((COUNT, 3, side, side), generator=torch.Generator().manual_seed(3)).to(best_device())
    timesteps = spaced_timesteps(model.config.diffusion.make_schedule(), STEPS)
    blank = blank_condition(model, embedder)
    made = draw(model, condition, blank, x, timesteps, sampler="ddim", guidance=GUIDANCE)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_grid(real, to_pixels(made).cpu().numpy())).save(path)


def _grid(above: npt.NDArray[np.uint8], below: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two batches of pictures (B, S, S, 3) as one: rows of the first, each over a row of the second."""
    rows = []
    for start in range(0, len(above), COLUMNS):
        part = slice(start, start + COLUMNS)
        rows += [np.concatenate(list(above[part]), axis=1), np.concatenate(list(below[part]), axis=1)]
    return np.concatenate(rows)
