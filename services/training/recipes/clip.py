"""Train the bundle's CLIP: open_clip's model and loss, with a small config and vocabulary of our own."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import tokenizers
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from safetensors.torch import save_file
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import BpeTrainer
from torch import nn

from services.bundles.clip import CONFIG as SETTINGS
from services.bundles.clip import load_tokenizer
from services.bundles.weights import best_device
from services.clip.config import ClipConfig
from services.clip.tokenizer import Tokenizer
from services.training.data.artwork import LABELS
from services.training.data.corpus import Corpus
from services.training.data.scenes import render, sample_scene
from services.training.device import autocast, evaluating, fast_attention, on_device
from services.training.loop import Run, RunConfig, console
from services.training.recipes.recipe import Recipe

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
VOCABULARY = "vocabulary.txt.gz"
WEIGHTS = "open_clip_model.safetensors"
BATCH = 100  # pictures judged at a time
MERGES = 1486  # with 512 byte symbols and 2 specials: 2000 tokens
CONFIG: dict[str, Any] = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": 64, "layers": 6, "width": 256, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 2000, "width": 192, "heads": 3, "layers": 4},
}


def build_vocabulary(path: Path) -> None:
    """Learn byte-pair merges from captions and emojibase's words; write them in CLIP's own gzip format."""
    rng = np.random.default_rng(0)
    lines = [sample_scene(rng).caption for _ in range(20_000)]
    for entry in json.loads(LABELS.read_text()):
        lines += [entry["label"].lower(), " ".join(entry.get("tags", ()))]
    alphabet = bytes_to_unicode()
    encoded = [" ".join("".join(alphabet[b] for b in w.encode()) for w in line.split()) for line in lines]
    tokenizer = tokenizers.Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.train_from_iterator(
        encoded, BpeTrainer(vocab_size=20_000, end_of_word_suffix="</w>", show_progress=False)
    )
    merges = json.loads(tokenizer.to_str())["model"]["merges"][:MERGES]
    text = "\n".join(["#version: 0.2", *(" ".join(m) for m in merges)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def to_input(pictures: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Pictures (B, H, W, 3) as CLIP's image tower takes them: float (B, 3, H, W) on the training device."""
    x = on_device(pictures).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN[0]) / STD[0]


def from_signal(x: torch.Tensor) -> torch.Tensor:
    """Signals (B, 3, H, W) in [-1, 1] as CLIP's image tower takes them; differentiable."""
    return (x / 2 + 0.5 - MEAN[0]) / STD[0]


def train(folder: Path, config: RunConfig) -> None:
    """Train and write ``folder/bundle/clip``: open_clip's config, weights, vocabulary."""
    target = folder / "bundle/clip"
    tokenizer = _tokenizer(target, config.start_from)
    torch.manual_seed(0)
    contrast = ClipLoss()
    corpus = Corpus(folder, config.scenes)
    captions = [s.caption for s in corpus.scenes]

    def loss_of(model: nn.Module, draw: int) -> torch.Tensor:
        batch = corpus.draw(np.random.default_rng((1, draw)), config.batch)
        tokens = tokenizer([captions[i] for i in batch]).to(best_device())
        with autocast(), fast_attention():
            image, text, scale = model(to_input(corpus.pictures[batch]), tokens)
            loss: torch.Tensor = contrast(image.float(), text.float(), scale)
        return loss

    model = Run("clip", CLIP(**CONFIG, output_dict=False), config, folder).train(loss_of)
    console.print(f"clip: right caption first among 1,000: {100 * retrieval(model, tokenizer):.1f} %")
    _export(model, target)


def _tokenizer(target: Path, start_from: Path | None) -> SimpleTokenizer:
    """The tokenizer of a part: of the vocabulary of the bundle that is started from, or of a new one."""
    if start_from:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(start_from / "clip" / VOCABULARY, target)
    else:
        build_vocabulary(target / VOCABULARY)
    text = CONFIG["text_cfg"]
    tokenizer = SimpleTokenizer(bpe_path=str(target / VOCABULARY), context_length=text["context_length"])
    assert tokenizer.vocab_size == text["vocab_size"], tokenizer.vocab_size
    return tokenizer


def retrieval(model: Any, tokenizer: Callable[[list[str]], torch.Tensor], count: int = 1000) -> float:
    """The share of held-out pictures whose best caption, among all ``count``, is right.

    One scene can be told in many ways. So a caption is right if its own scene has the same objects, relation,
    size, light and background.
    """
    rng = np.random.default_rng(99)
    scenes = [sample_scene(rng, held_out=True, arrangement=("one", "pair")[i % 2]) for i in range(count)]
    with evaluating(model), autocast():
        images = []
        for start in range(0, count, BATCH):
            pictures = np.stack([render(s, 64) for s in scenes[start : start + BATCH]])
            images.append(model.encode_image(to_input(pictures), normalize=True))
        texts = model.encode_text(tokenizer([s.caption for s in scenes]).to(best_device()), normalize=True)
    best = (torch.cat(images).float() @ texts.float().T).argmax(1).cpu()
    said = [(s.objects, s.relation, s.size, s.light.name, s.background.name) for s in scenes]
    return float(np.mean([said[int(j)] == own for j, own in zip(best, said, strict=True)]))


def _export(model: nn.Module, target: Path) -> None:
    config = {
        "model_cfg": CONFIG,
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"},
    }
    (target / SETTINGS).write_text(json.dumps(config, indent=2) + "\n")
    save_weights(model, target)


def save_weights(model: nn.Module, target: Path) -> None:
    """Write the weights of a part, in half precision."""
    weights = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, target / WEIGHTS)


def load(bundle: Path) -> tuple[nn.Module, Tokenizer]:
    """A bundle's CLIP, and its tokenizer as it is served: with the part's lexicon, if it has one."""
    part = bundle / "clip"
    model = open_clip.create_model(f"local-dir:{part}").to(best_device()).eval().requires_grad_(False)
    return model, load_tokenizer(part, ClipConfig.model_validate_json((part / SETTINGS).read_bytes()))


RECIPE = Recipe(
    train,
    RunConfig(
        steps=1600,
        learning_rate=1.5e-3,
        batch=256,
        warmup=80,
        weight_decay=0.1,
        betas=(0.9, 0.98),
        ema=0.99,
        muon=True,
    ),
)
