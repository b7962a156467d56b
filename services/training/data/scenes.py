"""Captioned scenes, composed on the fly: one to three objects on a background, and a sentence that says so.

A scene is described first (``Scene``), then rendered at any size. The base network trains at 64 px, and the
upsamplers at 256 and 1024 px, on the very same scenes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from services.training.data.artwork import Artwork, load_vocabulary, sprite
from services.training.data.backgrounds import BACKGROUNDS, Background
from services.training.data.captions import RELATION_WORDS, caption
from services.training.data.light import DAY, LIGHTS, Colour, Light, gained
from services.training.data.placing import Placement, place

HELD_OUT_BELOW = 26  # of 256: about 10 % of the pairs
BACKGROUND_VARIANTS = 320
Arrangement = Literal["one", "pair", "same", "three"]
ARRANGEMENTS: dict[Arrangement, float] = {"one": 0.45, "pair": 0.40, "same": 0.09, "three": 0.06}
SIZE_SHARE = 0.2  # of scenes with one object: the caption says its size
LIGHT_SHARE = 0.3  # of outdoor scenes: another light than day
EXPOSURE = (0.86, 1.1)  # how bright the same light may be
WARMTH = 0.05  # at most: how much redder, and how much less blue, or the other way
RELATIONS = tuple(RELATION_WORDS)


@dataclass(frozen=True)
class Scene:
    """What is in one picture. Earlier objects hide later ones.

    relation: how the first of two objects stands to the second; "same" where all objects are alike; or empty.
    size: what the caption says of a lone object's size, or empty. variant, mirrored: of the background.
    gain: of each channel, on the whole picture; captions do not say it.
    """

    objects: tuple[Artwork, ...]
    placements: tuple[Placement, ...]
    background: Background
    variant: int
    mirrored: bool
    light: Light
    gain: Colour
    relation: str
    size: str
    caption: str


def is_held_out(name: str, background: str) -> bool:
    """Whether the pair belongs to the held-out set: first byte of sha256("object|background") below 26."""
    return hashlib.sha256(f"{name}|{background}".encode()).digest()[0] < HELD_OUT_BELOW


@cache
def objects_for(background: str, held_out: bool) -> tuple[Artwork, ...]:
    """The objects that may stand on this background in the given split."""
    return tuple(a for a in load_vocabulary() if is_held_out(a.name, background) == held_out)


def sample_scene(
    rng: np.random.Generator, *, held_out: bool = False, arrangement: Arrangement | None = None
) -> Scene:
    """Draw a scene from the training or the held-out split. arrangement: None draws that, too."""
    arrangement = arrangement or _arrangement(rng)
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    objects = _objects(rng, arrangement, objects_for(background.name, held_out))
    light = DAY
    if background.outdoors and rng.random() < LIGHT_SHARE:
        light = LIGHTS[rng.integers(len(LIGHTS))]
    size = ("big", "small")[rng.integers(2)] if arrangement == "one" and rng.random() < SIZE_SHARE else ""
    relation = {"pair": RELATIONS[rng.integers(len(RELATIONS))], "same": "same"}.get(arrangement, "")
    said = caption(rng, objects, relation=relation, size=size, background=background, light=light)
    return Scene(
        objects=objects,
        placements=place(rng, len(objects), relation, size),
        background=background,
        variant=int(rng.integers(BACKGROUND_VARIANTS)),
        mirrored=bool(rng.random() < 0.5),
        light=light,
        gain=_gain(rng),
        relation=relation,
        size=size,
        caption=said,
    )


def _arrangement(rng: np.random.Generator) -> Arrangement:
    return list(ARRANGEMENTS)[rng.choice(len(ARRANGEMENTS), p=list(ARRANGEMENTS.values()))]


def _objects(
    rng: np.random.Generator, arrangement: Arrangement, candidates: Sequence[Artwork]
) -> tuple[Artwork, ...]:
    if arrangement == "same":
        return (candidates[int(rng.integers(len(candidates)))],) * int(rng.integers(2, 4))
    count = {"one": 1, "pair": 2, "three": 3}[arrangement]
    return tuple(candidates[i] for i in rng.choice(len(candidates), count, replace=False))


def _gain(rng: np.random.Generator) -> Colour:
    exposure = rng.uniform(*EXPOSURE)
    warmth = rng.uniform(-WARMTH, WARMTH)
    return (float(exposure * (1 + warmth)), float(exposure), float(exposure * (1 - warmth)))


@lru_cache(maxsize=4096)
def _backdrop(name: str, variant: int, side: int) -> Image.Image:
    """One variant of a background at ``side`` px. It is the same at every size and in every run."""
    background = next(b for b in BACKGROUNDS if b.name == name)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    pixels = np.clip(background.paint(np.random.default_rng((seed, variant))), 0, 1)
    picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
    # Painters soften what they draw. So at a larger size than theirs there is nothing sharper to draw.
    resampling = Image.Resampling.BOX if side < picture.width else Image.Resampling.BICUBIC
    return picture.resize((side, side), resampling)


def alike(rng: np.random.Generator, scene: Scene) -> Scene:
    """Another scene that its caption describes as well: what it does not say is drawn anew."""
    return replace(
        scene,
        placements=place(rng, len(scene.objects), scene.relation, scene.size),
        variant=int(rng.integers(BACKGROUND_VARIANTS)),
        mirrored=bool(rng.random() < 0.5),
        gain=_gain(rng),
    )


def moved(scene: Scene, dx: float, dy: float) -> Scene:
    """The scene with every object moved, perhaps past the picture's edge. dx, dy: in parts of its side."""
    return replace(scene, placements=tuple(replace(p, x=p.x + dx, y=p.y + dy) for p in scene.placements))


def render(scene: Scene, side: int) -> npt.NDArray[np.uint8]:
    """Draw a scene as RGB, shape (side, side, 3)."""
    canvas = _backdrop(scene.background.name, scene.variant, side)
    if scene.mirrored:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = scene.light.on_backdrop(canvas)
    for artwork, at in reversed(list(zip(scene.objects, scene.placements, strict=True))):
        picture = scene.light.on_object(sprite(artwork, round(at.side * side), at.tilt, at.mirrored))
        left = round(at.x * side - picture.width / 2)
        top = round(at.y * side - picture.height / 2)
        canvas.paste(picture, (left, top), picture)
    return scene.light.in_the_air(np.asarray(gained(canvas, scene.gain)), scene.variant)
