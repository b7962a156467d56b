"""Image embeddings as the bundle's prior imagines them, for networks that will be given such ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from services.bundles.weights import best_device, load_weights
from services.diffusion.prediction import Prediction, to_x0
from services.diffusion.samplers import Evaluation, make_sampler, run, with_x0
from services.diffusion.schedule import spaced_timesteps
from services.prior.network import Prior, PriorConfig
from services.training.device import autocast
from services.training.recipes.embedder import Text


class Imagination:
    """The frozen prior of a bundle, sampled with its own steps and guidance."""

    def __init__(self, bundle: Path) -> None:
        config = PriorConfig.model_validate_json((bundle / "prior/config.json").read_bytes())
        prior = load_weights(Prior(config), bundle / "prior/model.safetensors")
        self._prior = prior.to(best_device()).eval().requires_grad_(False)

    @torch.no_grad()
    def image(self, text: Text, blank: Text, generator: torch.Generator) -> Tensor:
        """Image embeddings (B, D) of texts.

        blank: the empty text, with B = 1. generator: of the noise, on the CPU.
        """
        diffusion = self._prior.config.diffusion
        schedule = diffusion.make_schedule()
        count = len(text[0])
        both = (torch.cat([part, none.expand_as(part)]) for part, none in zip(text, blank, strict=True))
        with autocast():
            memory = self._prior.read(*both)

        def predict(evaluation: Evaluation) -> Prediction:
            t = torch.full((2 * count,), evaluation.t, device=evaluation.x.device)
            with autocast():
                outputs = self._prior.predict(evaluation.x.repeat(2, 1), t, memory).float()
            with_text, without = outputs.chunk(2)
            guidance = diffusion.sampling.guidance_at(evaluation.t, diffusion.sampling.guidance)
            output = without + guidance * (with_text - without)
            return Prediction(to_x0(output, evaluation.x, schedule.at(evaluation.t), diffusion.prediction))

        noise = torch.randn(count, self._prior.config.embedding_dim, generator=generator)
        timesteps = spaced_timesteps(schedule, diffusion.sampling.steps)
        sampler = make_sampler(
            diffusion.sampling.sampler, schedule, noise.to(best_device()), timesteps, generator
        )
        return self._prior.restore(run(with_x0(sampler, diffusion.bounded), predict))
