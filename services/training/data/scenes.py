"""Captioned scenes, composed on the fly: one to three objects on a background, and a sentence that says so.

A scene is described first (``Scene``), then rendered at any size. The base network trains at 64 px, and the
upsamplers at 256 and 1024 px, on the very same scenes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import inflect
import numpy as np
import numpy.typing as npt
from PIL import Image

from services.training.data.artwork import Artwork, load_vocabulary, sprite
from services.training.data.backgrounds import BACKGROUNDS, Background
from services.training.data.light import DAY, LIGHTS, Light

HELD_OUT_BELOW = 26  # of 256: about 10 % of the pairs
BACKGROUND_VARIANTS = 160
Arrangement = Literal["one", "pair", "same", "three"]
ARRANGEMENTS: dict[Arrangement, float] = {"one": 0.45, "pair": 0.40, "same": 0.09, "three": 0.06}
# Objects come in four sizes and stand on a grid. What a network learns of an object in one place then holds
# in every other place, so it need not learn each offset. Sides are in cells of the grid.
GRID = 16
SIDES = {1: 12, 2: 7, 3: 5}  # by the number of objects
SAID_SIDES = {"big": 15, "small": 5}  # of a lone object whose caption says its size
FRONT_SIDES = (7, 12)  # of the object in front, and of the one behind
SIZE_WORDS = {"big": ("big", "large", "huge"), "small": ("small", "little", "tiny")}
SIZE_SHARE = 0.2  # of scenes with one object: the caption says its size
LIGHT_SHARE = 0.3  # of outdoor scenes: another light than day
SYNONYM_SHARE = 0.15  # of the words for objects
CAPTION_STYLES = (
    "{things} {place}",
    "a picture of {things} {place}",
    "{things}, {place}",
    "{place}, {things}",
    "{things} seen {place}",
)
STYLE_WEIGHTS = (0.64, 0.12, 0.1, 0.1, 0.04)
RELATION_WORDS = {
    "left": ("{a} to the left of {b}", "{a} on the left and {b} on the right", "{a} left of {b}"),
    "right": ("{a} to the right of {b}", "{a} on the right and {b} on the left", "{a} right of {b}"),
    "above": ("{a} above {b}", "{a} over {b}"),
    "below": ("{a} below {b}", "{a} under {b}"),
    "beside": ("{a} next to {b}", "{a} and {b}", "{a} beside {b}"),
    "front": ("{a} in front of {b}", "{b} behind {a}"),
}
RELATIONS = tuple(RELATION_WORDS)
PROPER = ("Santa Claus",)  # names without an article
NUMBERS = {2: ("two", "2", "a pair of"), 3: ("three", "3")}
ENGLISH = inflect.engine()


@dataclass(frozen=True)
class Placement:
    """Where an object stands: its centre and its side, relative to the picture's side."""

    x: float
    y: float
    side: float

    def box(self, side: int, room: npt.ArrayLike = 1.0) -> tuple[slice, slice]:
        """Rows and columns of its square in a picture of ``side`` px, cut by the picture's edges.

        room: scales its reach to the left, the top, the right and the bottom.
        """
        reach = self.side / 2 * np.multiply(room, (-1, -1, 1, 1))
        edges = np.clip(np.array([self.x, self.y] * 2) + reach, 0, 1)
        left, top, right, bottom = (edges * side).round().astype(int)
        return slice(top, bottom), slice(left, right)


@dataclass(frozen=True)
class Scene:
    """What is in one picture. Earlier objects hide later ones.

    relation: how the first of two objects stands to the second; "same" where all objects are alike; or empty.
    size: what the caption says of a lone object's size, or empty.
    """

    objects: tuple[Artwork, ...]
    placements: tuple[Placement, ...]
    background: Background
    variant: int
    mirrored: bool
    light: Light
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
    things = _things(rng, objects, relation, size)
    return Scene(
        objects=objects,
        placements=_place(rng, len(objects), relation, size),
        background=background,
        variant=int(rng.integers(BACKGROUND_VARIANTS)),
        mirrored=bool(rng.random() < 0.5),
        light=light,
        relation=relation,
        size=size,
        caption=_caption(rng, things, background, light),
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


def _place(rng: np.random.Generator, count: int, relation: str, size: str) -> tuple[Placement, ...]:
    """Draw where each object stands. They do not overlap much, unless one is in front of the other."""
    sides = np.full(count, SAID_SIDES[size] if size else SIDES[count]) / GRID
    jitter = rng.uniform(-0.05, 0.05, (count, 2))
    if count == 1:
        room = max(0.5 - sides[0] / 2, 0.02)
        centres = 0.5 + rng.uniform(-room, room, (1, 2)) + (0.0, 0.02)
    elif relation == "front":
        sides = np.array(FRONT_SIDES) / GRID
        centres = np.array([(rng.choice([0.36, 0.64]), 0.72), (0.5, 0.42)]) + jitter
    elif count == 2:
        centres = _pair(rng, relation) + jitter
    else:
        centres = np.array([(0.19, 0.55), (0.5, 0.55), (0.81, 0.55)]) + jitter * (0.4, 2.0)
    centres = (np.round((centres - sides[:, None] / 2) * GRID) / GRID) + sides[:, None] / 2
    return tuple(Placement(float(x), float(y), float(s)) for (x, y), s in zip(centres, sides, strict=True))


def _pair(rng: np.random.Generator, relation: str) -> npt.NDArray[np.float64]:
    """Centres of two objects that stand in this relation."""
    first, second = (0.26, 0.74) if relation in ("left", "above", "same") else (0.74, 0.26)
    if relation == "beside" and rng.random() < 0.5:
        first, second = second, first
    vertical = relation in ("above", "below")
    return np.array([(0.5, first), (0.5, second)] if vertical else [(first, 0.55), (second, 0.55)])


def _things(rng: np.random.Generator, objects: Sequence[Artwork], relation: str, size: str) -> str:
    """The objects in words: with their number, size or relation, or one after the other."""
    if relation == "same":
        numbers = NUMBERS[len(objects)]
        return f"{numbers[rng.integers(len(numbers))]} {ENGLISH.plural_noun(_word(rng, objects[0]))}"
    adjective = SIZE_WORDS[size][rng.integers(3)] if size else ""
    names = [with_article(f"{adjective} {_word(rng, a)}".strip()) for a in objects]
    if relation:
        words = RELATION_WORDS[relation]
        return words[rng.integers(len(words))].format(a=names[0], b=names[1])
    return names[0] if len(names) == 1 else f"{names[0]}, {names[1]} and {names[2]}"


def _caption(rng: np.random.Generator, things: str, background: Background, light: Light) -> str:
    place = background.phrases[rng.integers(len(background.phrases))]
    if light.phrases:
        place = f"{place} {light.phrases[rng.integers(len(light.phrases))]}"
    style = CAPTION_STYLES[rng.choice(len(CAPTION_STYLES), p=STYLE_WEIGHTS)]
    return style.format(things=things, place=place)


def _word(rng: np.random.Generator, artwork: Artwork) -> str:
    if artwork.synonyms and rng.random() < SYNONYM_SHARE:
        return artwork.synonyms[rng.integers(len(artwork.synonyms))]
    return artwork.name


@cache
def with_article(name: str) -> str:
    """The name with its article ("an owl", "the sun"). Proper names have none."""
    if name in PROPER:
        return name
    return "the sun" if name == "sun" else str(ENGLISH.a(name))


@cache
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
        placements=_place(rng, len(scene.objects), scene.relation, scene.size),
        variant=int(rng.integers(BACKGROUND_VARIANTS)),
        mirrored=bool(rng.random() < 0.5),
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
    for artwork, place in reversed(list(zip(scene.objects, scene.placements, strict=True))):
        picture = scene.light.on_object(sprite(artwork, round(place.side * side)))
        left = round((place.x - place.side / 2) * side)
        top = round((place.y - place.side / 2) * side)
        canvas.paste(picture, (left, top), picture)
    return scene.light.in_the_air(np.asarray(canvas), scene.variant)
