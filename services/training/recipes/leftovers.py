"""What the base decoder leaves: real scenes, noised and denoised by it, with its small blur and wobble.

Upsamplers that see clean reductions only keep such faults and enlarge them (compare the conditioning
augmentation of arXiv 2106.15282).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from services.bundles.bundle import sha256
from services.bundles.weights import best_device, load_weights
from services.decoder.network import Decoder, DecoderConfig
from services.diffusion.pixels import to_pixels, to_signal
from services.training.data.corpus import Corpus
from services.training.device import on_device
from services.training.loop import console
from services.training.recipes.drawing import blank_condition, draw
from services.training.recipes.embedder import Embedder

PART = 64  # scenes at a time
FROM = (250, 620)  # timesteps that scenes are noised to: below, nothing is lost; above, the scene itself is
STRIDE = 140  # timesteps of one step, about as the decoder's own sampling has


def load_leftovers(folder: Path, count: int) -> npt.NDArray[np.uint8]:
    """Those of the corpus' first ``count`` scenes, (count, 64, 64, 3), by the decoder of ``folder/bundle``.

    They are drawn once for each decoder.
    """
    part = folder / "bundle/decoder"
    config = DecoderConfig.model_validate_json((part / "config.json").read_text())
    corpus = Corpus(folder, count, config.side)
    path = corpus.folder / f"leftovers-{sha256(part / 'model.safetensors')[:12]}.npy"
    if not path.exists():
        model = load_weights(Decoder(config), part / "model.safetensors").to(best_device()).eval()
        pictures = _drawn(model, Embedder(folder / "bundle"), corpus)
        np.save(path, pictures)
    found: npt.NDArray[np.uint8] = np.load(path)
    return found


@torch.no_grad()
def _drawn(model: Decoder, embedder: Embedder, corpus: Corpus) -> npt.NDArray[np.uint8]:
    schedule = model.config.diffusion.make_schedule()
    sampling = model.config.diffusion.sampling
    blank = blank_condition(model, embedder)
    parts = []
    for start in track(range(0, corpus.count, PART), "drawing what the decoder leaves", console=console):
        rng = np.random.default_rng((6, start))
        generator = torch.Generator().manual_seed(start)
        pixels = np.array(corpus.pictures[start : start + PART])
        captions = [scene.caption for scene in corpus.scenes[start : start + PART]]
        condition = (embedder.image(pixels), *embedder.text(captions))
        top = int(rng.integers(*FROM))
        signal, sigma = (level[:, None, None, None] for level in schedule.levels(torch.tensor([top])))
        x0 = to_signal(on_device(pixels))
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        x = signal.to(x0.device) * x0 + sigma.to(x0.device) * noise
        timesteps = np.linspace(top, 0, 1 + max(1, round(top / STRIDE))).round().astype(int).tolist()
        made = draw(
            model,
            condition,
            blank,
            x,
            timesteps,
            sampler=sampling.sampler,
            guidance=sampling.guidance,
            seed=start,
        )
        parts.append(to_pixels(made).cpu().numpy())
    return np.concatenate(parts)
