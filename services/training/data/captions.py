"""The words of captions: what objects, places and light are called, and the forms of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import inflect
import numpy as np

from services.training.data.artwork import Artwork
from services.training.data.backgrounds import Background
from services.training.data.light import Light

SIZE_WORDS = {"big": ("big", "large", "huge"), "small": ("small", "little", "tiny")}
SYNONYM_SHARE = 0.2  # of the words for objects
BARE_SHARE = 0.15  # of captions: no articles ("fox, snow")
# Sentences with a phrase for the place ("in the snow"), and with a noun for it ("deep snow"), by weight.
SENTENCES = {
    "{things} {place}": 0.5,
    "{things}, {place}": 0.07,
    "{place}, {things}": 0.07,
    "a picture of {things} {place}": 0.05,
    "a photo of {things} {place}": 0.03,
    "an image of {things} {place}": 0.02,
    "a drawing of {things} {place}": 0.02,
    "an illustration of {things} {place}": 0.02,
    "{things} seen {place}": 0.02,
    "{place} there is {things}": 0.01,
    "we see {things} {place}": 0.01,
    "{things}, {scene}": 0.05,
    "{scene}, {things}": 0.03,
    "{things} and {scene}": 0.02,
    "{scene} with {things}": 0.02,
    "{things} with {scene}": 0.01,
    "{things} - {scene}": 0.01,
    "{things}; {scene}": 0.01,
    "{things} before {scene}": 0.01,
    "subject: {things}, background: {scene}": 0.01,
    "{scene} behind {things}": 0.01,
}
RELATION_WORDS = {
    "left": ("{a} to the left of {b}", "{a} on the left and {b} on the right", "{a} left of {b}"),
    "right": ("{a} to the right of {b}", "{a} on the right and {b} on the left", "{a} right of {b}"),
    "above": ("{a} above {b}", "{a} over {b}"),
    "below": ("{a} below {b}", "{a} under {b}"),
    "beside": ("{a} next to {b}", "{a} and {b}", "{a} beside {b}"),
    "front": ("{a} in front of {b}", "{b} behind {a}"),
}
PROPER = ("Santa Claus",)  # names without an article
NUMBERS = {1: ("one",), 2: ("two", "2", "a pair of"), 3: ("three", "3")}
ONE_SHARE = 0.04  # of lone objects: their number is said
ENGLISH = inflect.engine()


def caption(
    rng: np.random.Generator,
    objects: Sequence[Artwork],
    *,
    relation: str,
    size: str,
    background: Background,
    light: Light,
) -> str:
    """Say what is there, in one of many wordings."""
    bare = rng.random() < BARE_SHARE
    things = things_in_words(rng, objects, relation, size, bare)
    sentence = str(rng.choice(list(SENTENCES), p=list(SENTENCES.values())))
    place = one_of(rng, background.phrases)
    scene = one_of(rng, background.nouns)
    if bare:
        scene = scene.removeprefix("a ").removeprefix("the ")
    if light.phrases:
        lit = one_of(rng, light.phrases)
        place = f"{place} {lit}"
        scene = f"{scene} {lit}"
    return sentence.format(things=things, place=place, scene=scene)


def things_in_words(
    rng: np.random.Generator, objects: Sequence[Artwork], relation: str, size: str, bare: bool
) -> str:
    """The objects in words: with their number, size or relation, or one after the other."""
    if relation == "same":
        return f"{one_of(rng, NUMBERS[len(objects)])} {ENGLISH.plural_noun(_word(rng, objects[0]))}"
    adjective = one_of(rng, SIZE_WORDS[size]) if size else ""
    names = [f"{adjective} {_word(rng, a)}".strip() for a in objects]
    if len(names) == 1 and rng.random() < ONE_SHARE:
        names = [f"{one_of(rng, NUMBERS[1])} {names[0]}"]
    elif not bare:
        names = [with_article(name) for name in names]
    if relation:
        return one_of(rng, RELATION_WORDS[relation]).format(a=names[0], b=names[1])
    return names[0] if len(names) == 1 else f"{names[0]}, {names[1]} and {names[2]}"


def _word(rng: np.random.Generator, artwork: Artwork) -> str:
    if artwork.synonyms and rng.random() < SYNONYM_SHARE:
        return one_of(rng, artwork.synonyms)
    return artwork.name


def one_of(rng: np.random.Generator, words: Sequence[str]) -> str:
    """Any of the words."""
    return words[int(rng.integers(len(words)))]


@cache
def with_article(name: str) -> str:
    """The name with its article ("an owl", "the sun"). Proper names have none."""
    if name in PROPER:
        return name
    return "the sun" if name == "sun" else str(ENGLISH.a(name))
