"""Train the prior: from what CLIP says of a caption to what it says of the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.bundles.weights import best_device
from services.diffusion.config import DiffusionConfig, SamplingConfig
from services.prior.network import Prior, PriorConfig
from services.training.data.corpus import Corpus
from services.training.data.rewording import in_other_words
from services.training.device import autocast, fast_attention, on_device
from services.training.loop import Run, RunConfig
from services.training.recipes.embedder import EmbeddedCorpus, Embedder, with_captions, without_captions
from services.training.recipes.export import save_part
from services.training.recipes.recipe import Recipe

CONFIG = PriorConfig(
    embedding_dim=192,
    text_tokens=32,
    layers=6,
    heads=4,
    diffusion=DiffusionConfig(
        prediction="sample",
        spacing="trailing",
        clip=5.0,
        sampling=SamplingConfig(sampler="ancestral", steps=3, guidance=3.0),
    ),
)
DROP_TEXT = 0.1  # share of the batch without a caption
# Share of the batch that is said in other words: people do not write in training's grammar, and name things
# that it knows nothing of.
REWORDED = 0.4
STANDARDISED = 4096  # scenes whose embeddings' mean and deviation the network is given


def train(folder: Path, config: RunConfig) -> None:
    """Train and write ``folder/bundle/prior``."""
    embedder = Embedder(folder / "bundle")
    schedule = CONFIG.diffusion.make_schedule()
    torch.manual_seed(3)
    model = Prior(CONFIG)
    corpus = Corpus(folder, config.scenes)
    embedded = EmbeddedCorpus(corpus, embedder)
    some = embedded.image(np.arange(min(corpus.count, STANDARDISED)))
    model.mean.copy_(some.mean(0))
    model.std.copy_(some.std(0))
    blank = embedder.text([""])

    def loss_of(model: nn.Module, draw: int) -> Tensor:
        assert isinstance(model, Prior)
        rng = np.random.default_rng((3, draw))
        generator = torch.Generator(best_device()).manual_seed(draw)
        batch = corpus.draw(rng, config.batch)
        x0 = model.standardise(embedded.image(batch))
        captions = [in_other_words(rng, corpus.scenes[i]) for i in batch[: round(REWORDED * config.batch)]]
        said = with_captions(embedded.text(batch), embedder.text(captions))
        dropped = on_device(rng.random(config.batch) < DROP_TEXT)
        text, states, mask = without_captions(said, blank, dropped)
        t = torch.randint(len(schedule), (config.batch,), device=x0.device, generator=generator)
        noise = torch.randn(x0.shape, device=x0.device, generator=generator)
        signal, sigma = (level[:, None] for level in schedule.levels(t))
        with autocast(), fast_attention():
            output = model(signal * x0 + sigma * noise, t, text, states, mask)
            return F.mse_loss(output.float(), x0)

    ema = Run("prior", model, config, folder).train(loss_of)
    save_part(ema, CONFIG, folder / "bundle/prior")


RECIPE = Recipe(
    train,
    RunConfig(steps=6_000, learning_rate=1e-3, batch=64, warmup=150, ema=0.998, muon=True),
    needs=("clip",),
)
