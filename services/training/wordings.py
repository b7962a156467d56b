"""Write what people call the objects and places of scenes: ``python -m services.training.wordings``.

A sentence encoder (all-MiniLM-L6-v2, arXiv 2002.10957) says which words and pairs of words of English are
nearer to one object or place than to any other: "bamboo plank", "saharan dunes", "kettle". Words near to none
of them name nothing that can be drawn. The text tower is taught with them (recipe ``wording``).
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import permutations
from pathlib import Path

import click
import regex
import torch
from torch import Tensor

from services.bundles.bundle import ROOT
from services.bundles.clip import LEXICON, PART
from services.clip.tokenizer import WORDS as WORDS_OF
from services.clip.tokenizer import read_lexicon
from services.training.data.artwork import load_vocabulary
from services.training.data.backgrounds import BACKGROUNDS, Background
from services.training.data.captions import ENGLISH
from services.training.data.light import LIGHTS
from services.training.data.rewording import NOTHING, WORDINGS
from services.training.lexicon import FREQUENCIES, encoded, english_words, known_words
from services.training.loop import console

BIGRAMS = "frequency_bigramdictionary_en_243_342.txt"
WORDS = 30_000  # of English, the most frequent ones
FUNCTION_WORDS = 400  # the most frequent, which are in no pair
SHORTEST = 3  # letters of a word
OBJECT_NEAR = (0.6, 0.08)  # the least cosine of a word to an object, and how much less it is to all else
OBJECT_PAIR_NEAR = (0.75, 0.12)
PLACE_NEAR = (0.55, 0.04)
PLACE_PAIR_NEAR = (0.55, 0.08)
PLACE_WORD_NEAR = 0.33  # of a word that is put into pairs
PLACE_WORDS = 120  # of a place, for pairs
PLACE_PAIRS = 600
FAR = 0.4  # a word whose cosines are all below says nothing
SMALL = {"a", "the", "in", "of", "with", "and", "full", "at", "one", "by", "made"}
# What a prompt does, and what its picture is called: no thing in it.
ASKING = {"draw", "drawing", "drawings", "drawn", "sketch", "paint", "painting", "picture", "pictures"}
PEOPLE = ("people", "faces")  # groups whose nearest words a sentence encoder does not know well enough
INDECENT = regex.compile(
    "sex|porn|fuck|puss|rape|nud[ei]|naked|babe|bikini|teen|whore|slut|boob|tits|hot", regex.I
)
Name = tuple[str, str]  # kind, name
Row = tuple[Name, str]


def english() -> list[str]:
    """Words of English, the most frequent first."""
    return [word for word in english_words() if word.isalpha() and len(word) >= SHORTEST][:WORDS]


def english_pairs(function_words: set[str]) -> list[str]:
    """Pairs of words that often stand together."""
    text = (files(FREQUENCIES) / BIGRAMS).read_text("utf-8-sig")
    pairs = (line.split()[:2] for line in text.splitlines() if line)
    return [
        " ".join(pair)
        for pair in pairs
        if all(word.isalpha() and len(word) >= SHORTEST and word not in function_words for word in pair)
    ]


def terms() -> Iterator[Row]:
    """What captions call objects, places and light."""
    for background in BACKGROUNDS:
        nouns = {noun.removeprefix("a ").removeprefix("the ") for noun in background.nouns}
        for noun in sorted(nouns | {background.name}):
            yield ("place", background.name), noun
    for artwork in load_vocabulary():
        for word in (artwork.name, *artwork.synonyms):
            yield ("object", artwork.name), word
    for light in LIGHTS:
        for phrase in light.phrases:
            yield ("light", light.name), phrase


class Nearness:
    """How near texts are to each thing that scenes have, as the sentence encoder sees them."""

    def __init__(self) -> None:
        owners, words = zip(*terms(), strict=True)
        self.names: list[Name] = sorted(set(owners))
        self._owner = torch.tensor([self.names.index(owner) for owner in owners])
        self._terms = encoded(words)

    def of(self, texts: Sequence[str]) -> Tensor:
        """The greatest cosine to any term of each name, (texts, names)."""
        cosines = encoded(texts) @ self._terms.T
        nearest = torch.full((len(texts), len(self.names)), -1.0)
        return nearest.scatter_reduce(1, self._owner.expand_as(cosines), cosines, "amax")


def near(nearness: Nearness, kind: str, texts: Sequence[str], least: tuple[float, float]) -> Iterator[Row]:
    """Which of the texts are near to one thing of a kind and to nothing else. least: cosine and lead."""
    best, index = nearness.of(texts).topk(2, 1)
    for text, (first, second), (number, _) in zip(texts, best.tolist(), index.tolist(), strict=True):
        name = nearness.names[number]
        if name[0] == kind and first >= least[0] and first - second >= least[1]:
            yield name, text


def pairs_near_places(
    nearness: Nearness, words: Sequence[str], to_words: Tensor, known: set[str]
) -> Iterator[Row]:
    """Pairs of words, each near to a place, that are near to it and to nothing else."""
    for background in BACKGROUNDS:
        name = ("place", background.name)
        column = nearness.names.index(name)
        order = to_words[:, column].argsort(descending=True).tolist()[:PLACE_WORDS]
        chosen = [words[i] for i in order if to_words[i, column] >= PLACE_WORD_NEAR]
        chosen = sorted({*chosen, *words_of(background)})
        texts = [f"{a} {b}" for a, b in permutations(chosen, 2)]
        cosines = nearness.of(texts)
        own_cosine = cosines[:, column].clone()
        cosines[:, column] = -1.0
        lead = own_cosine - cosines.amax(1)
        close = [
            i
            for i in own_cosine.argsort(descending=True).tolist()
            if own_cosine[i] >= PLACE_PAIR_NEAR[0]
            and lead[i] >= PLACE_PAIR_NEAR[1]
            and not known.issuperset(texts[i].split())
        ]
        step = -(-len(close) // PLACE_PAIRS) or 1
        for i in close[::step]:  # near ones and farther ones
            yield name, texts[i]


def taught(rows: Iterable[tuple[Name, str]], read_as: Mapping[str, str], known: set[str]) -> Iterator[Row]:
    """The rows that a tower should be taught. read_as: the lexicon that words come to it through.

    Not objects that come to it in known words alone, nor places that come to it in another's words: the
    lexicon has said what these are. Nor a size that should say nothing, plurals as names of one, words for
    people, and what is indecent.
    """
    people = {artwork.name for artwork in load_vocabulary() if artwork.group in PEOPLE}
    of_places = {background.name: words_of(background) for background in BACKGROUNDS}
    for (kind, name), text in rows:
        words = text.split()
        come = {word for each in words for word in WORDS_OF.findall(read_as.get(each, each))}
        others = (own for place, own in of_places.items() if place != name)
        wrong = {
            NOTHING: any(read_as.get(each) for each in words),
            "object": name in people
            or bool(ASKING & {*words})
            or bool(ENGLISH.singular_noun(words[-1]))
            or known.issuperset(come),
            "place": any(own.issuperset(come) for own in others),
        }
        if not wrong[kind] and not INDECENT.search(text):
            yield (kind, name), text


def words_of(background: Background) -> set[str]:
    """The words that captions have for a place."""
    return {word for noun in background.nouns for word in WORDS_OF.findall(noun)} - SMALL


def wordings(read_as: Mapping[str, str]) -> Iterator[Row]:
    """Other words for all that scenes have, and, of the name NOTHING, words that say nothing."""
    known = known_words()
    yield from taught(found(known), read_as, known)


def found(known: set[str]) -> Iterator[Row]:
    """What the sentence encoder says is near to things, and to none."""
    nearness = Nearness()
    words = english()
    to_words = nearness.of(words)
    pairs = english_pairs(set(words[:FUNCTION_WORDS]))
    unknown = [word for word in words if word not in known]
    yield from near(nearness, "object", unknown, OBJECT_NEAR)
    yield from near(nearness, "object", pairs, OBJECT_PAIR_NEAR)
    yield from near(nearness, "place", unknown, PLACE_NEAR)
    yield from pairs_near_places(nearness, words, to_words, known)
    farthest = to_words.amax(1) < FAR
    for word, far in zip(words, farthest.tolist(), strict=True):
        if (far or word in ASKING) and word not in known:
            yield (NOTHING, ""), word


@click.command()
@click.argument(
    "bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "models",
)
def main(bundle: Path) -> None:
    """Write the wordings that a text tower is taught with, where words come through the lexicon of BUNDLE."""
    read_as = read_lexicon(bundle / PART / LEXICON)
    rows = [f"{kind}\t{name}\t{text}\n" for (kind, name), text in wordings(read_as)]
    WORDINGS.write_bytes(gzip.compress("".join(rows).encode(), mtime=0))
    console.print(f"{len(rows)} wordings in {WORDINGS.name}", highlight=False)


if __name__ == "__main__":
    main()
