"""Captioned scenes, composed on the fly: one to three objects on a background, and a sentence that says so.

A scene is described first (``Scene``) and rendered after, at any size: the base network trains at 64 px and the
upsampler at 256 px on the very same scenes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from services.training.artwork import Artwork, load_vocabulary, sprite
from services.training.backgrounds import BACKGROUNDS, Background

HELD_OUT_BELOW = 26  # of 256: about 10 % of the pairs
BACKGROUND_VARIANTS = 160
OBJECT_COUNTS = (0.80, 0.16, 0.04)  # one, two, three objects
SIZES = {1: (0.64, 0.94), 2: (0.42, 0.54), 3: (0.32, 0.38)}  # side of a sprite, relative to the picture
CAPTION_STYLES = ("{things} {place}", "a picture of {things} {place}", "{things}, {place}", "{place}, {things}")
STYLE_WEIGHTS = (0.7, 0.1, 0.1, 0.1)
SYNONYM_SHARE = 0.15


@dataclass(frozen=True)
class Placement:
    """Where an object stands: centre and side relative to the picture's side, and whether it is mirrored."""

    x: float
    y: float
    side: float
    flip: bool


@dataclass(frozen=True)
class Scene:
    """What is in one picture. ``relation`` says how the first object stands to the second, if there are two."""

    objects: tuple[Artwork, ...]
    placements: tuple[Placement, ...]
    background: Background
    variant: int
    mirrored: bool
    relation: str
    caption: str


def is_held_out(name: str, background: str) -> bool:
    """Whether the pair belongs to the held-out set: first byte of sha256("object|background") below 26."""
    return hashlib.sha256(f"{name}|{background}".encode()).digest()[0] < HELD_OUT_BELOW


@cache
def objects_for(background: str, held_out: bool) -> tuple[Artwork, ...]:
    """The objects that may stand on this background in the given split."""
    return tuple(a for a in load_vocabulary() if is_held_out(a.name, background) == held_out)


def sample_scene(rng: np.random.Generator, *, held_out: bool = False, count: int | None = None) -> Scene:
    """Draw a scene of ``count`` objects (drawn too when absent) from the training or the held-out split."""
    count = count or int(rng.choice(3, p=OBJECT_COUNTS)) + 1
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    candidates = objects_for(background.name, held_out)
    while len(candidates) < count:
        background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
        candidates = objects_for(background.name, held_out)
    objects = tuple(candidates[i] for i in rng.choice(len(candidates), count, replace=False))
    relation, placements = _place(rng, count)
    return Scene(
        objects=objects,
        placements=placements,
        background=background,
        variant=int(rng.integers(BACKGROUND_VARIANTS)),
        mirrored=bool(rng.random() < 0.5),
        relation=relation,
        caption=_caption(rng, objects, background, relation),
    )


def _place(rng: np.random.Generator, count: int) -> tuple[str, tuple[Placement, ...]]:
    """Draw the relation and where each object stands; objects of one scene do not overlap much."""
    sides = rng.uniform(*SIZES[count], count)
    jitter = rng.uniform(-0.05, 0.05, (count, 2))
    if count == 1:
        room = max(0.5 - sides[0] / 2, 0.02)
        relation, centres = "", 0.5 + rng.uniform(-room, room, (1, 2)) + (0.0, 0.02)
    elif count == 2:
        relation = ("left", "right", "above", "below", "beside")[rng.integers(5)]
        first, second = (0.26, 0.74) if relation in ("left", "above") else (0.74, 0.26)
        if relation == "beside" and rng.random() < 0.5:
            first, second = second, first
        vertical = relation in ("above", "below")
        centres = np.array([(0.5, first), (0.5, second)] if vertical else [(first, 0.55), (second, 0.55)]) + jitter
    else:
        relation, centres = "", np.array([(0.19, 0.55), (0.5, 0.55), (0.81, 0.55)]) + jitter * (0.4, 2.0)
    flips = rng.random(count) < 0.5
    return relation, tuple(Placement(float(x), float(y), float(s), bool(f)) for (x, y), s, f in zip(centres, sides, flips, strict=True))


RELATION_WORDS = {
    "left": ("{a} to the left of {b}", "{a} on the left and {b} on the right"),
    "right": ("{a} to the right of {b}", "{a} on the right and {b} on the left"),
    "above": ("{a} above {b}", "{a} over {b}"),
    "below": ("{a} below {b}", "{a} under {b}"),
    "beside": ("{a} next to {b}", "{a} and {b}", "{a} beside {b}"),
}


def _caption(rng: np.random.Generator, objects: Sequence[Artwork], background: Background, relation: str) -> str:
    names = [with_article(_word(rng, a)) for a in objects]
    if len(names) == 2:
        words = RELATION_WORDS[relation]
        things = words[rng.integers(len(words))].format(a=names[0], b=names[1])
    else:
        things = names[0] if len(names) == 1 else f"{names[0]}, {names[1]} and {names[2]}"
    style = CAPTION_STYLES[rng.choice(len(CAPTION_STYLES), p=STYLE_WEIGHTS)]
    return style.format(things=things, place=background.phrases[rng.integers(len(background.phrases))])


def _word(rng: np.random.Generator, artwork: Artwork) -> str:
    if artwork.synonyms and rng.random() < SYNONYM_SHARE:
        return artwork.synonyms[rng.integers(len(artwork.synonyms))]
    return artwork.name


def with_article(name: str) -> str:
    """The name with its indefinite article ("an owl", "a fox", plurals and substances alone)."""
    if name in ("broccoli", "cheese", "cherries", "maize"):
        return name
    if name in ("sun",):
        return f"the {name}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


@cache
def _backdrops(name: str, side: int) -> list[Image.Image]:
    """All variants of a background at ``side`` px; the same ones at every size and in every run."""
    background = next(b for b in BACKGROUNDS if b.name == name)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    variants = []
    for i in range(BACKGROUND_VARIANTS):
        pixels = np.clip(background.paint(np.random.default_rng((seed, i))), 0, 1)
        picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
        variants.append(picture.resize((side, side), Image.Resampling.BOX) if side != picture.width else picture)
    return variants


def render(scene: Scene, side: int) -> npt.NDArray[np.uint8]:
    """Draw a scene as RGB, shape (side, side, 3)."""
    canvas = _backdrops(scene.background.name, side)[scene.variant].copy()
    if scene.mirrored:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for artwork, place in zip(scene.objects, scene.placements, strict=True):
        size = max(round(place.side * 32), 1) * side // 32
        picture = sprite(artwork.path, size, place.flip)
        canvas.paste(picture, (round(place.x * side - size / 2), round(place.y * side - size / 2)), picture)
    return np.asarray(canvas)


def compose(rng: np.random.Generator, count: int, side: int) -> tuple[npt.NDArray[np.uint8], list[Scene]]:
    """``count`` training scenes: pictures (count, side, side, 3) and their descriptions."""
    scenes = [sample_scene(rng) for _ in range(count)]
    return np.stack([render(s, side) for s in scenes]), scenes
