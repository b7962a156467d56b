"""The artwork that scenes are composed of: Fluent Emoji sprites, named by emojibase.

The packages are MIT licensed and come from the npm registry (see ``package.json``).
"""

from __future__ import annotations

import io
import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PIXELS = 256  # side of the sprites
SPRITES = ROOT / "node_modules/@lobehub/fluent-emoji-3d/assets"
VECTORS = ROOT / "node_modules/@iconify-json/fluent-emoji"
LABELS = ROOT / "node_modules/emojibase-data/en/data.json"
VOCABULARY = Path(__file__).with_name("vocabulary.toml")


@dataclass(frozen=True)
class Artwork:
    """One object that can stand in a scene.

    name: as captions say it. synonyms: other words for it. group: its section of the vocabulary.
    path: of a square RGBA picture of 256 px. vector: the name of its gradient vectors, or empty.
    """

    name: str
    synonyms: tuple[str, ...]
    group: str
    path: Path
    vector: str


@lru_cache(maxsize=1)
def load_vocabulary() -> tuple[Artwork, ...]:
    """Every object of ``vocabulary.toml`` with its sprite, in the file's order.

    Raises FileNotFoundError, naming the command that mends it, where the npm packages are missing.
    """
    if not all(package.exists() for package in (LABELS, SPRITES, VECTORS)):
        raise FileNotFoundError("the artwork packages are not installed; run `make setup-node`")
    code_points = {e["label"]: e["hexcode"] for e in json.loads(LABELS.read_text())}
    files = {_code_point(p.stem): p for p in SPRITES.glob("*.webp")}
    sections = tomllib.loads(VOCABULARY.read_text())
    return tuple(
        Artwork(name, tuple(synonyms), group, files[_code_point(code_points[label])], _vector_name(label))
        for group, section in sections.items()
        for name, (label, *synonyms) in section.items()
    )


def _vector_name(label: str) -> str:
    """The icon set's name for a label: "jack-o-lantern", "t-rex"."""
    name = re.sub("[^a-z0-9]+", "-", label.lower())
    return name if name in _vectors()["icons"] else ""


def _code_point(name: str) -> str:
    """A file name or hexcode without the emoji variation selector."""
    return name.lower().replace("-fe0f", "")


@lru_cache(maxsize=1024)
def sprite(artwork: Artwork, side: int, tilt: float = 0.0, mirrored: bool = False) -> Image.Image:
    """The object's picture at ``side`` px, RGBA. Its vectors are drawn where its sprite is too small.

    tilt: degrees, counterclockwise, after it is mirrored. A tilted picture is larger, as its corners need it.
    """
    drawn = side > PIXELS and artwork.vector
    # A picture is tilted at twice its side, where there is so much of it, to stay sharp.
    wide = side if drawn or not tilt else min(2 * side, max(PIXELS, side))
    picture = _drawn(artwork.vector, side) if drawn else _resized(artwork.path, wide)
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if not tilt:
        return picture
    turned = picture.convert("RGBa").rotate(tilt, Image.Resampling.BICUBIC, expand=True)
    last = round(turned.width * side / wide)
    return turned.resize((last, last), Image.Resampling.LANCZOS, reducing_gap=3.0).convert("RGBA")


def _resized(path: Path, side: int) -> Image.Image:
    """The picture, resized with premultiplied alpha."""
    premultiplied = _premultiplied(path)
    return premultiplied.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0).convert("RGBA")


@cache
def _premultiplied(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGBA").convert("RGBa")


def _drawn(vector: str, side: int) -> Image.Image:
    """The gradient vectors of the object, rasterised."""
    icons = _vectors()
    icon = icons["icons"][vector]
    canvas = icons["height"]
    box = f"0 0 {icon.get('width', canvas)} {icon.get('height', canvas)}"
    size = f'viewBox="{box}" width="{side}" height="{side}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{icon["body"]}</svg>'
    with Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))) as picture:
        return picture.convert("RGBA")


@cache
def _vectors() -> Any:
    return json.loads((VECTORS / "icons.json").read_text())
