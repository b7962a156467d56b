"""Loading CLIP's towers: the bundle's own, or those of a folder in the layout of open_clip's repositories."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar, cast

import torch
from pydantic import ValidationError
from torch import nn

from services.bundles.bundle import ROOT, Bundle, BundleError
from services.bundles.clip_source import ClipSource
from services.bundles.weights import best_device, load_network
from services.clip.config import ClipConfig
from services.clip.network import TOWERS, ImageTower, TextTower, Tower
from services.clip.tokenizer import Tokenizer, read_lexicon, read_merges

PART = "clip"
CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
VOCABULARY = "vocabulary.txt.gz"
LEXICON = "lexicon.tsv.gz"
MERGES = "merges.txt"  # what the vocabulary is called in published repositories
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Clip(Generic[Network]):
    """One tower of a CLIP, and the bundle it is served with."""

    tower: Network
    config: ClipConfig
    bundle: Bundle
    folder: Path
    device: torch.device

    def tokenizer(self) -> Tokenizer:
        """The text tower's. Raises BundleError if there is none."""
        return load_tokenizer(self.folder, self.config)


def load_tokenizer(folder: Path, config: ClipConfig) -> Tokenizer:
    """The tokenizer of a part, with the part's lexicon if it has one. Raises BundleError."""
    files = [folder / name for name in (VOCABULARY, MERGES)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise BundleError(f"{folder} has neither {VOCABULARY} nor {MERGES}")
    text = config.model_cfg.text_cfg
    lexicon = folder / LEXICON
    read_as = read_lexicon(lexicon) if lexicon.is_file() else {}
    tokenizer = Tokenizer(read_merges(found), text.context_length, read_as)
    if tokenizer.vocab_size != text.vocab_size:
        raise BundleError(
            f"{found} makes {tokenizer.vocab_size} tokens; {CONFIG} says vocab_size: {text.vocab_size}"
        )
    return tokenizer


def load_text_tower(source: ClipSource, threads: int) -> Clip[TextTower]:
    """The text tower, for inference. threads: of torch, in this whole process. Raises BundleError."""
    return cast(Clip[TextTower], _load(source, threads, "text"))


def load_image_tower(source: ClipSource, threads: int) -> Clip[ImageTower]:
    """The image tower, for inference. threads: of torch, in this whole process. Raises BundleError."""
    return cast(Clip[ImageTower], _load(source, threads, "image"))


def _load(source: ClipSource, threads: int, tower: Tower) -> Clip[nn.Module]:
    """A bundle has both towers in one part, or each in its own."""
    torch.set_num_threads(threads)
    device = best_device()
    part = PART if Bundle(source.bundle).parts(PART) else f"{tower}-tower"
    bundle = Bundle(source.bundle, part)
    folder = ROOT / source.folder if source.folder else bundle.part(part)
    network, config = read_tower(folder, tower, device)
    return Clip(network, config, bundle, folder, device)


def read_tower(
    folder: Path, tower: Tower, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[nn.Module, ClipConfig]:
    """A tower of a folder, and its config. dtype: if not the device's best. Raises BundleError."""
    config = read_config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise BundleError(
            f"{weights} does not exist; pickled weights are converted by `python -m services.bundles.convert`"
        )
    build = partial(TOWERS[tower], config.model_cfg)
    return load_network(build, weights, device, partial(_belongs, tower), dtype), config


def read_config(folder: Path) -> ClipConfig:
    """A folder's config. Raises BundleError naming what is missing, or not implemented."""
    try:
        return ClipConfig.model_validate_json((folder / CONFIG).read_bytes())
    except OSError:
        raise BundleError(f"{folder / CONFIG} cannot be read") from None
    except ValidationError as error:
        raise BundleError(
            f"{folder / CONFIG} is not a ViT's, or not one that is implemented: {error}"
        ) from None


def _belongs(tower: Tower, key: str) -> bool:
    """Whether a weight is the tower's."""
    return key.startswith("visual.") == (tower == "image")
