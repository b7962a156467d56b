"""Pictures that a base decoder draws while networks are trained: many at once, all with the same steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.decoder.network import MASK_CHANNELS, Decoder
from services.diffusion.guidance import guided
from services.diffusion.prediction import Prediction, to_x0
from services.diffusion.samplers import Evaluation, SamplerName, make_sampler, run, with_x0
from services.training.device import autocast
from services.training.recipes.embedder import Embedder


@torch.no_grad()
def draw(
    model: Decoder,
    condition: Sequence[Tensor],
    blank: Sequence[Tensor],
    x: Tensor,
    timesteps: Sequence[int],
    *,
    sampler: SamplerName,
    guidance: float,
    seed: int = 0,
) -> Tensor:
    """Signals of the shape of x, (B, 3, side, side), denoised from there at these timesteps.

    condition: image (B, D), text, states and mask of each picture. blank: the same of none, without B.
    """
    diffusion = model.config.diffusion
    schedule = diffusion.make_schedule()

    def predict(evaluation: Evaluation) -> Prediction:
        def network(rows: Sequence[int], conditional: Sequence[bool]) -> Sequence[Tensor]:
            chosen = [
                torch.stack([given[i] if c else none for i, c in zip(rows, conditional, strict=True)])
                for given, none in zip(condition, blank, strict=True)
            ]
            t = torch.full((len(rows),), evaluation.t, device=x.device)
            known = torch.zeros((len(rows), MASK_CHANNELS, *x.shape[2:]), device=x.device)
            with autocast():
                output: Tensor = model(evaluation.x[list(rows)], t, known, *chosen)
            return output.float().unbind()

        scale = diffusion.sampling.guidance_at(evaluation.t, guidance)
        output = torch.stack(guided(network, [scale] * len(x), 3))
        return Prediction(to_x0(output, evaluation.x, schedule.at(evaluation.t), diffusion.prediction))

    trajectory = make_sampler(sampler, schedule, x, timesteps, torch.Generator().manual_seed(seed))
    return run(with_x0(trajectory, diffusion.bounded), predict)


def blank_condition(model: Decoder, embedder: Embedder) -> tuple[Tensor, ...]:
    """What a picture of nothing in particular is conditioned on, without a batch dimension."""
    null = model.conditioning.null_image
    return tuple(part[0] for part in (null[None], *embedder.text([""])))
