"""Scenes as people may say them: other words, other order, and words that say nothing.

``wordings.tsv.gz`` has the words (``python -m services.training.wordings`` writes it). Each piece of a text
goes with what training's captions say instead, so a text tower can be taught to read it alike.
"""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from services.training.data.artwork import Artwork
from services.training.data.captions import ENGLISH, one_of, things_in_words
from services.training.data.scenes import Scene

WORDINGS = Path(__file__).with_name("wordings.tsv.gz")
# What callers put between the parts of a prompt.
JOINERS = (", ", "; ", ": ", " / ", " - ", " and ", " with ", ". ", " ", " (")
CONSONANTS = "bdfgklmnprstvwz"
VOWELS = "aeiou"
NOTHING = "nothing"  # the group of words that name nothing in any scene
OTHER_OBJECT = 0.4  # how likely an object, and a place, is said in words that captions do not have
OTHER_PLACE = 0.7
ONE_WORD = 0.4  # how likely that is one word, as people say most often, and of which there are few
BARE = 0.5  # how likely objects are named without articles
SAID = 0.3  # how likely words that say nothing stand between two pieces
SAID_WORDS = 3  # of them, at most
BESIDE = 0.25  # how likely a thing is named that no scene has
FREQUENT = 400  # words that say nothing: the most frequent ones stand between pieces three times in four
FRAMES = ("{}", "{}", "{}", "the {}", "a {}", "in the {}", "on the {}", "at the {}", "near {}", "by the {}")


@dataclass(frozen=True)
class Piece:
    """Words, and the words of a caption that say the same; None: nothing does."""

    said: str
    meant: str | None = None


@dataclass(frozen=True)
class Reworded:
    """A scene in other words: its pieces as they are said, and those that captions have, in their order."""

    said: Sequence[Piece]
    meant: Sequence[Piece]


@dataclass(frozen=True)
class Wordings:
    """Other words for objects and places, by their names, and words that say nothing, frequent ones first."""

    objects: Mapping[str, Sequence[str]]
    places: Mapping[str, Sequence[str]]
    nothing: Sequence[str]


@cache
def load_wordings() -> Wordings:
    """Those of ``wordings.tsv.gz``."""
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in gzip.decompress(WORDINGS.read_bytes()).decode().splitlines():
        kind, name, words = line.split("\t")
        groups[kind][name].append(words)
    return Wordings(groups["object"], groups["place"], groups[NOTHING][""])


def reworded(rng: np.random.Generator, scene: Scene, wordings: Wordings) -> Reworded:
    """The scene in other words."""
    parts = [_things(rng, scene, wordings), [_place(rng, scene, wordings)]]
    if scene.light.phrases:
        light = one_of(rng, scene.light.phrases)
        parts.append([Piece(light, light)])
    order = [parts[i] for i in rng.permutation(len(parts))]
    if rng.random() < BESIDE:
        unknown = one_of(rng, wordings.nothing) if rng.random() < 0.5 else unknown_word(rng)
        thing = one_of(rng, ("", "a ", "the ", "some ")) + unknown
        order.insert(int(rng.integers(len(order) + 1)), [Piece(thing)])
    said: list[Piece] = []
    for i, part in enumerate(order):
        if rng.random() < SAID:
            said.append(Piece(_words_of_nothing(rng, wordings)))
        if i:
            said.append(Piece(one_of(rng, JOINERS)))
        said += part
    if rng.random() < SAID:
        said.append(Piece(_words_of_nothing(rng, wordings)))
    return Reworded(said, [piece for part in parts for piece in part])


def in_other_words(rng: np.random.Generator, scene: Scene) -> str:
    """The scene in other words, as a text."""
    return " ".join(piece.said.strip() for piece in reworded(rng, scene, load_wordings()).said)


def unknown_word(rng: np.random.Generator) -> str:
    """A word that means nothing, such as "wobari"."""
    syllables = (one_of(rng, CONSONANTS) + one_of(rng, VOWELS) for _ in range(rng.integers(2, 4)))
    return "".join(syllables) + one_of(rng, ("", "n", "r", "s", "t"))


def _words_of_nothing(rng: np.random.Generator, wordings: Wordings) -> str:
    words = wordings.nothing[:FREQUENT] if rng.random() < 0.75 else wordings.nothing
    return " ".join(one_of(rng, words) for _ in range(rng.integers(1, SAID_WORDS + 1)))


def _place(rng: np.random.Generator, scene: Scene, wordings: Wordings) -> Piece:
    background = scene.background
    meant = one_of(rng, background.phrases)
    if rng.random() < OTHER_PLACE:
        words = wordings.places[background.name]
        if rng.random() < ONE_WORD:
            words = [each for each in words if " " not in each]
        said = one_of(rng, FRAMES).format(one_of(rng, words))
    else:
        said = one_of(rng, (*background.phrases, *background.nouns))
    return Piece(said, meant)


def _things(rng: np.random.Generator, scene: Scene, wordings: Wordings) -> list[Piece]:
    """The objects in words, cut at their names, each beside the name that captions have."""
    seed = int(rng.integers(2**31))
    bare = bool(rng.random() < BARE)
    others = {artwork.name: _other_word(rng, artwork, wordings) for artwork in scene.objects}
    said, meant = (
        things_in_words(
            np.random.default_rng(seed),
            [replace(a, name=words[a.name], synonyms=()) for a in scene.objects],
            scene.relation,
            scene.size,
            bare,
        )
        for words in (others, {name: name for name in others})
    )
    forms = [(others[name], name) for name in others]
    if scene.relation == "same":
        forms = [(str(ENGLISH.plural_noun(own)), str(ENGLISH.plural_noun(name))) for own, name in forms]
    parts = _cut(said, [own for own, _ in forms])
    of_caption = _cut(meant, [name for _, name in forms])
    if len(parts) != len(of_caption):  # a name is a word of the other one, too
        return [Piece(said, meant)]
    pieces = [Piece(own, same) for own, same in zip(parts, of_caption, strict=True)]
    return [piece for piece in pieces if piece.said.strip()]


def _other_word(rng: np.random.Generator, artwork: Artwork, wordings: Wordings) -> str:
    words = wordings.objects.get(artwork.name, ())
    if words and rng.random() < OTHER_OBJECT:
        return one_of(rng, words)
    return one_of(rng, (artwork.name, artwork.name, *artwork.synonyms))


def _cut(text: str, names: Sequence[str]) -> list[str]:
    """A text in pieces: each name, where it stands as whole words, and what is between."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.split(rf"\b({'|'.join(map(re.escape, longest_first))})\b", text)
