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
from services.diffusion.samplers import Evaluation, ddim, run, with_x0
from services.diffusion.schedule import make_schedule, spaced_timesteps
from services.training.data.scenes import render, sample_scene
from services.training.device import autocast
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
    null = model.conditioning.null_image
    blank = tuple(part[0] for part in (null[None], *embedder.text([""])))
    made = to_pixels(_drawn(model, condition, blank)).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_grid(real, made)).save(path)


def _drawn(model: Decoder, condition: Sequence[Tensor], blank: Sequence[Tensor]) -> Tensor:
    """Signals (COUNT, 3, side, side), drawn by DDIM with guidance.

    condition: image (COUNT, D), text, states and mask of each picture. blank: the same of none, without B.
    """
    side = model.config.side
    diffusion = model.config.diffusion
    schedule = make_schedule(diffusion.schedule)
    x = torch.randn((COUNT, 3, side, side), generator=torch.Generator().manual_seed(3)).to(best_device())

    def predict(evaluation: Evaluation) -> Prediction:
        def network(rows: Sequence[int], conditional: Sequence[bool]) -> Tensor:
            chosen = [
                torch.stack([given[i] if c else none for i, c in zip(rows, conditional, strict=True)])
                for given, none in zip(condition, blank, strict=True)
            ]
            t = torch.full((len(rows),), evaluation.t, device=x.device)
            known = torch.zeros((len(rows), MASK_CHANNELS, side, side), device=x.device)
            with autocast():
                output: Tensor = model(evaluation.x[list(rows)], t, known, *chosen)
            return output.float()

        output = torch.stack(guided(network, [GUIDANCE] * COUNT, 3))
        return Prediction(to_x0(output, evaluation.x, schedule.at(evaluation.t), diffusion.prediction))

    sampler = ddim(schedule, x, spaced_timesteps(schedule, STEPS))
    return run(with_x0(sampler, lambda x0: x0.clamp(-diffusion.clip, diffusion.clip)), predict)


def _grid(above: npt.NDArray[np.uint8], below: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two batches of pictures (B, S, S, 3) as one: rows of the first, each over a row of the second."""
    rows = []
    for start in range(0, len(above), COLUMNS):
        part = slice(start, start + COLUMNS)
        rows += [np.concatenate(list(above[part]), axis=1), np.concatenate(list(below[part]), axis=1)]
    return np.concatenate(rows)
