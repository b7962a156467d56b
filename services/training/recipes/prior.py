"""Train the prior: from what CLIP says of a caption to what it says of the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.diffusion.config import DiffusionConfig, SamplingConfig
from services.diffusion.schedule import make_schedule
from services.prior.network import Prior, PriorConfig
from services.training import loop
from services.training.data.corpus import Corpus
from services.training.recipes.embedder import EmbeddedCorpus, Embedder, drop_text
from services.training.recipes.export import save_stage

CONFIG = PriorConfig(
    embedding_dim=192,
    text_tokens=32,
    layers=6,
    heads=4,
    diffusion=DiffusionConfig(
        prediction="sample", clip=5.0, sampling=SamplingConfig(sampler="ancestral", steps=4, guidance=3.0)
    ),
)
RECIPE = loop.Recipe(steps=6_000, learning_rate=1e-3, batch=64, warmup=150, ema=0.998, muon=True)
DROP_TEXT = 0.1


def train(folder: Path, recipe: loop.Recipe = RECIPE) -> None:
    """Train and write ``folder/bundle/prior``."""
    embedder, schedule = Embedder(folder), make_schedule("cosine")
    torch.manual_seed(3)
    model = Prior(CONFIG)
    corpus = Corpus(folder, recipe.scenes)
    seen = EmbeddedCorpus(corpus, embedder)
    some = seen.image(np.arange(min(corpus.count, 4096)))
    model.mean.copy_(some.mean(0))
    model.std.copy_(some.std(0))
    blank = embedder.text([""])

    def loss_of(model: nn.Module, step: int) -> Tensor:
        assert isinstance(model, Prior)
        rng = np.random.default_rng((3, step))
        generator = torch.Generator(loop.device()).manual_seed(step)
        batch = corpus.draw(rng, recipe.batch)
        x0 = model.standardise(seen.image(batch))
        text, states, mask = drop_text(seen.text(batch), blank, DROP_TEXT, rng)
        t = torch.randint(len(schedule), (recipe.batch,), device=loop.device(), generator=generator)
        noise = torch.randn(x0.shape, device=loop.device(), generator=generator)
        signal, sigma = (level[:, None] for level in schedule.levels(t))
        with loop.autocast(), loop.fast_attention():
            output = model(signal * x0 + sigma * noise, t, text, states, mask)
            return F.mse_loss(output.float(), x0)

    ema = loop.Run("prior", model, recipe, folder).train(loss_of)
    save_stage(ema, CONFIG, folder / "bundle/prior")
