"""The places that scenes are in: their names, how captions say them, and how they are painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.training.data import backdrops
from services.training.data.backdrops import Pixels, Rng


@dataclass(frozen=True)
class Background:
    """A place: its name (as in the held-out split), the words captions use, and its painter.

    phrases: "in the snow". nouns: "deep snow". outdoors: whether time of day and weather show there.
    """

    name: str
    phrases: tuple[str, ...]
    nouns: tuple[str, ...]
    paint: Callable[[Rng], Pixels]
    outdoors: bool = False


BACKGROUNDS = (
    Background(
        "meadow",
        ("in a green meadow", "in a meadow", "on the grass", "in a grassy meadow", "on green grass"),
        ("a green meadow", "a meadow", "grass", "green grass", "wild flowers in the grass", "a sunny meadow"),
        backdrops.meadow,
        outdoors=True,
    ),
    Background(
        "beach",
        (
            "on a sandy beach",
            "on the beach",
            "at the beach",
            "on a beach by the sea",
            "in the sand at the sea",
        ),
        ("a sandy beach", "a beach", "the beach", "sand and sea", "a summer beach", "sand, sea and sky"),
        backdrops.beach,
        outdoors=True,
    ),
    Background(
        "snow",
        ("in the snow", "in a snowy field", "on a snowy day", "in deep snow", "on snow", "in winter"),
        ("snow", "a snowy field", "deep snow", "snowfall", "white snow", "a snowy day", "winter"),
        backdrops.snow,
        outdoors=True,
    ),
    Background(
        "night sky",
        ("under a starry night sky", "in the night sky", "at night among the stars", "among the stars"),
        (
            "a starry night sky",
            "the night sky",
            "stars",
            "a night sky full of stars",
            "a dark sky with stars",
        ),
        backdrops.night_sky,
    ),
    Background(
        "desert",
        ("in the desert", "in a hot desert", "among the sand dunes", "on desert sand", "in a dry desert"),
        ("the desert", "a hot desert", "sand dunes", "desert sand", "a desert of sand", "a dry desert"),
        backdrops.desert,
        outdoors=True,
    ),
    Background(
        "ocean",
        ("on the ocean", "in the ocean", "out at sea", "on the open sea", "in the sea", "on the water"),
        ("the ocean", "the sea", "the open sea", "ocean waves", "blue water", "a calm ocean"),
        backdrops.ocean,
        outdoors=True,
    ),
    Background(
        "city street",
        ("on a city street", "in the city", "on a street in town", "in a street", "in town", "on the street"),
        ("a city street", "the city", "a street in town", "city houses", "a street with houses", "a town"),
        backdrops.city_street,
        outdoors=True,
    ),
    Background(
        "wooden table",
        ("on a wooden table", "on a table", "on wooden planks", "on a table made of wood", "on wood"),
        (
            "a wooden table",
            "a table",
            "wooden planks",
            "a table made of wood",
            "a wooden floor",
            "brown wood",
        ),
        backdrops.wooden_table,
    ),
    Background(
        "plain wall",
        (
            "in front of a plain wall",
            "against a plain wall",
            "on a plain background",
            "before a plain wall",
            "on a simple background",
        ),
        (
            "a plain wall",
            "a plain background",
            "a simple background",
            "a wall in one colour",
            "a smooth wall",
        ),
        backdrops.plain_wall,
    ),
    Background(
        "brick wall",
        (
            "in front of a brick wall",
            "against a brick wall",
            "by a red brick wall",
            "before a wall of brick",
            "next to a brick wall",
        ),
        ("a brick wall", "a red brick wall", "a wall of brick", "red brick", "an old brick wall"),
        backdrops.brick_wall,
    ),
    Background(
        "forest",
        ("in a dark forest", "in the forest", "in the woods", "among the trees", "in a green forest"),
        ("a dark forest", "a forest", "the woods", "trees", "forest trees", "a green forest"),
        backdrops.forest,
        outdoors=True,
    ),
    Background(
        "sunset",
        ("at sunset", "in front of a sunset", "under a sunset sky", "at sundown", "before a red sunset"),
        ("a sunset", "a sunset sky", "sundown", "a red sunset", "the sky at sunset"),
        backdrops.sunset,
    ),
)
