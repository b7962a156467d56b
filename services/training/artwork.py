"""The artwork that scenes are composed of: Fluent Emoji sprites, named by emojibase.

Both packages are MIT licensed and come from the npm registry (see ``package.json``).
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SPRITES = ROOT / "node_modules/@lobehub/fluent-emoji-3d/assets"
LABELS = ROOT / "node_modules/emojibase-data/en/data.json"
VOCABULARY = Path(__file__).with_name("vocabulary.toml")


@dataclass(frozen=True)
class Artwork:
    """One object that can stand in a scene.

    name: as captions say it; synonyms: other words for it; the vocabulary's section;
    path: a square RGBA picture of 256 px.
    """

    name: str
    synonyms: tuple[str, ...]
    group: str
    path: Path


@lru_cache(maxsize=1)
def load_vocabulary() -> tuple[Artwork, ...]:
    """Every object of ``vocabulary.toml`` with its sprite, in the file's order.

    Raises FileNotFoundError, naming the command that mends it, where the npm packages are missing.
    """
    if not LABELS.exists() or not SPRITES.exists():
        raise FileNotFoundError("the artwork packages are not installed; run `make setup`")
    code_points = {e["label"]: e["hexcode"] for e in json.loads(LABELS.read_text())}
    files = {_code_point(p.stem): p for p in SPRITES.glob("*.webp")}
    sections = tomllib.loads(VOCABULARY.read_text())
    return tuple(
        Artwork(name, tuple(synonyms), group, files[_code_point(code_points[label])])
        for group, section in sections.items()
        for name, (label, *synonyms) in section.items()
    )


def _code_point(name: str) -> str:
    """A file name or hexcode without the emoji variation selector."""
    return name.lower().replace("-fe0f", "")


@lru_cache(maxsize=4096)
def sprite(path: Path, side: int, flip: bool) -> Image.Image:
    """The sprite scaled to ``side`` px (RGBA), mirrored if ``flip``; resized with premultiplied alpha."""
    picture = _premultiplied(path).resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    picture = picture.convert("RGBA")
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else picture


@cache
def _premultiplied(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGBA").convert("RGBa")
