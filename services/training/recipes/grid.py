"""Pictures to look at while the decoder is trained: real scenes, and what it makes of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from services.bundles.weights import best_device
from services.decoder.network import MASK_CHANNELS, Decoder
from services.diffusion.guidance import guided
from services.diffusion.pixels import to_pixels
from services.diffusion.prediction import Prediction, to_x0
from services.diffusion.samplers import Evaluation, make_sampler, run, with_x0
from services.diffusion.schedule import spaced_timesteps
from services.training.data.scenes import render, sample_scene
from services.training.device import autocast
from services.training.recipes.embedder import Embedder

COUNT = 16
COLUMNS = 8
Condition = Sequence[Tensor]  # image, text, states, mask


@torch.no_grad()
def save_grid(model: Decoder, embedder: Embedder, path: Path) -> None:
    """Save a grid of scenes, and below each the picture that is drawn from its caption and its embedding."""
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng) for _ in range(COUNT)]
    real = np.stack([render(s, model.config.side) for s in scenes])
    condition = (embedder.image(real), *embedder.text([s.caption for s in scenes]))
    blank = tuple(part[0] for part in (model.conditioning.null_image[None], *embedder.text([""])))
    made = draw(model, condition, blank)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_grid(real, to_pixels(made).cpu().numpy())).save(path)


@torch.no_grad()
def draw(model: Decoder, condition: Condition, blank: Condition) -> Tensor:
    """Signals (B, 3, side, side), sampled as the model's config says.

    condition: of each picture. blank: that of nothing in particular, without B.
    """
    diffusion = model.config.diffusion
    sampling = diffusion.sampling
    schedule = diffusion.make_schedule()
    count, side = len(condition[0]), model.config.side
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((count, 3, side, side), generator=generator).to(best_device())

    def predict(evaluation: Evaluation) -> Prediction:
        def network(rows: Sequence[int], conditional: Sequence[bool]) -> Sequence[Tensor]:
            chosen = [
                torch.stack([given[i] if c else none for i, c in zip(rows, conditional, strict=True)])
                for given, none in zip(condition, blank, strict=True)
            ]
            t = torch.full((len(rows),), evaluation.t, device=x.device)
            known = torch.zeros((len(rows), MASK_CHANNELS, side, side), device=x.device)
            with autocast():
                output: Tensor = model(evaluation.x[list(rows)], t, known, *chosen)
            return output.float().unbind()

        scale = sampling.guidance_at(evaluation.t, sampling.guidance)
        output = torch.stack(guided(network, [scale] * count, 3))
        return Prediction(to_x0(output, evaluation.x, schedule.at(evaluation.t), diffusion.prediction))

    timesteps = spaced_timesteps(schedule, sampling.steps)
    trajectory = make_sampler(sampling.sampler, schedule, x, timesteps, generator)
    return run(with_x0(trajectory, diffusion.bounded), predict)


def _grid(above: npt.NDArray[np.uint8], below: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two batches of pictures (B, S, S, 3) as one: rows of the first, each over a row of the second."""
    rows = []
    for start in range(0, len(above), COLUMNS):
        part = slice(start, start + COLUMNS)
        rows += [np.concatenate(list(above[part]), axis=1), np.concatenate(list(below[part]), axis=1)]
    return np.concatenate(rows)
