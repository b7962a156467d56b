"""Train the base decoder at 64 px, with joint inpainting, on scenes embedded by the bundle's CLIP as they are composed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from services.decoder.conditioning import ConditioningConfig
from services.decoder.network import MASK_CHANNELS, Decoder, DecoderConfig, known_channels
from services.decoder.unet import UNetConfig, initialise
from services.diffusion.config import DiffusionConfig, SamplingConfig
from services.diffusion.prediction import to_x0, x0_weight
from services.diffusion.schedule import make_schedule, spaced_timesteps
from services.training import loop
from services.training.data.corpus import Corpus, Shares
from services.training.data.holes import draw_edits
from services.training.data.scenes import Scene, render, sample_scene
from services.training.recipes.embedder import EmbeddedCorpus, Embedder, drop_text, to_signal
from services.training.recipes.export import save_stage

SIDE = 64
CONFIG = DecoderConfig(
    side=SIDE,
    unet=UNetConfig(
        in_channels=3 + MASK_CHANNELS,
        out_channels=3,
        channels=(128, 256),
        layers_per_level=1,
        attention=(True, True),
        mid_attention=True,
        context_dim=192,
        patch_size=4,
        positions=SIDE // 4,  # what is left of what, attention cannot tell from noise
        detail=64,
    ),
    conditioning=ConditioningConfig(embedding_dim=192, text_dim=192),
    diffusion=DiffusionConfig(
        prediction="sample",
        sampling=SamplingConfig(sampler="ancestral", steps=8, guidance=3.0, guidance_interval=(0.4, 1.0)),
    ),
)
RECIPE = loop.Recipe(steps=60_000, learning_rate=1e-3, batch=32, warmup=100, ema=0.998, muon=True)
ALL_HIDDEN = 0.65  # share of the batch with no known pixels: plain generation
DROP_IMAGE, DROP_TEXT = 0.1, 0.25
OBJECT = 2.0  # what an object's square counts, the whole picture being 1: it is mostly background, which is soon learnt
PERCEPTUAL = 0.25  # of the distance CLIP sees, in the noisier half of a batch
SAID_SIZE = 3.0  # how often a scene whose caption says a size is drawn, any other being 1: small objects are drawn worst
SHIFT = 2.0  # towards noise: what a picture shows is settled above timestep 600, and small errors below cost little


def train(folder: Path, recipe: loop.Recipe = RECIPE) -> None:
    """Train and write ``folder/bundle/decoder``; sample grids go to ``folder/samples``."""
    embedder, schedule = Embedder(folder), make_schedule("cosine")
    corpus = Corpus(folder, recipe.scenes)
    seen = EmbeddedCorpus(corpus, embedder)
    torch.manual_seed(2)
    model = Decoder(CONFIG).to(memory_format=torch.channels_last)
    initialise(model.unet)
    blank = embedder.text([""])
    shares = draw_shares(corpus.scenes)

    def loss_of(model: nn.Module, step: int) -> Tensor:
        rng = np.random.default_rng((2, step))
        generator = torch.Generator(loop.device()).manual_seed(step)
        batch = corpus.draw(rng, recipe.batch, shares)
        pictures, keep, scenes = draw_edits(
            rng, corpus.pictures[batch], [corpus.scenes[i] for i in batch], ALL_HIDDEN
        )
        x0, image = to_signal(pictures), seen.image(batch)
        text, states, mask = drop_text(seen.text(batch), blank, DROP_TEXT, rng)
        dropped = torch.from_numpy(rng.random(recipe.batch) < DROP_IMAGE).to(loop.device())[:, None]
        image = torch.where(dropped, model.conditioning.null_image, image)  # type: ignore[union-attr, arg-type]
        known = known_channels(x0, keep)
        t = noisy_timesteps(len(schedule), recipe.batch, generator)
        noise = torch.randn(x0.shape, device=loop.device(), generator=generator)
        signal, sigma = (level[:, None, None, None] for level in schedule.levels(t))
        with loop.autocast(), loop.fast_attention():
            output = model(signal * x0 + sigma * noise, t, known, image, text, states, mask).float()
            error = ((output - x0).square().mean(1) * object_weights(scenes, SIDE)).mean((1, 2))
            # Near the picture the squared error says enough, and CLIP over all of the batch took 40 % of the time.
            noisiest = t.argsort(descending=True)[: (recipe.batch + 1) // 2]
            perceptual = embedder.perceptual_distance(output[noisiest], x0[noisiest], rng)
            return (error * x0_weight(schedule, t)).mean() + PERCEPTUAL * perceptual

    def look(ema: nn.Module, step: int) -> None:
        sample_grid(ema, embedder, folder / "samples" / f"decoder-{step:06d}.png")

    ema = loop.Run("decoder", model, recipe, folder).train(loss_of, save_every=400, sample=look)
    save_stage(ema, CONFIG, folder / "bundle/decoder")


def draw_shares(scenes: Sequence[Scene]) -> Shares:
    """How likely each scene is to be drawn (len(scenes),), summing to 1: SAID_SIZE times as likely where its size is said."""
    likelihoods = np.array([SAID_SIZE if scene.size else 1.0 for scene in scenes])
    return likelihoods / likelihoods.sum()


def object_weights(scenes: Sequence[Scene], side: int) -> Tensor:
    """Weights of errors in pictures of these scenes (B, side, side): 1, and over each object OBJECT divided by its area,
    so that a small object counts as much as a large one."""
    weights = np.ones((len(scenes), side, side), np.float32)
    for row, scene in zip(weights, scenes, strict=True):
        for place in scene.placements:
            row[place.box(side)] += OBJECT / place.side**2
    return torch.from_numpy(weights).to(loop.device())


def noisy_timesteps(steps: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` timesteps below ``steps``, denser towards noise: u -> s u / (1 + (s - 1) u) of a uniform u, s = SHIFT
    (arXiv 2403.03206, equation 23)."""
    u = torch.rand(count, device=loop.device(), generator=generator)
    return (steps * SHIFT * u / (1 + (SHIFT - 1) * u)).long().clamp_max(steps - 1)


@torch.no_grad()
def sample_grid(
    model: nn.Module, embedder: Embedder, path: Path, *, steps: int = 12, guidance: float = 3.0
) -> None:
    """A grid of 16 generated scenes from true image embeddings, DDIM, with the real scenes above them."""
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng) for _ in range(16)]
    pictures = np.stack([render(s, SIDE) for s in scenes])
    text, states, mask = embedder.text([s.caption for s in scenes])
    image, n = embedder.image(pictures), len(scenes)
    blank = [b.expand(n, *b.shape[1:]) for b in embedder.text([""])]
    null = model.conditioning.null_image.expand(n, -1)  # type: ignore[union-attr, operator]
    conditions = [torch.cat(pair) for pair in zip((image, text, states, mask), (null, *blank), strict=True)]
    schedule = make_schedule("cosine")
    x = torch.randn((n, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(3)).to(loop.device())
    timesteps = spaced_timesteps(schedule, steps)
    for t, following in zip(timesteps, [*timesteps[1:], -1], strict=True):
        known = torch.zeros((2 * n, MASK_CHANNELS, SIDE, SIDE), device=x.device)
        with loop.autocast():
            output = model(
                torch.cat([x, x]), torch.full((2 * n,), t, device=x.device), known, *conditions
            ).float()
        guided = output[n:] + guidance * (output[:n] - output[n:])
        now, then = schedule.at(t), schedule.at(following)
        x0 = to_x0(guided, x, now, CONFIG.diffusion.prediction).clamp(-1, 1)
        x = then**0.5 * x0 + (1 - then) ** 0.5 * (x - now**0.5 * x0) / (1 - now) ** 0.5
    made = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    rows = [row for i in range(0, n, 8) for row in (pictures[i : i + 8], made[i : i + 8])]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(list(r), axis=1) for r in rows])).save(path)
