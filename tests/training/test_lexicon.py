"""The shipped lexicon reads words that training does not use as words that it does."""

from __future__ import annotations

import pytest

from services.bundles.bundle import ROOT
from services.bundles.clip import LEXICON
from services.clip.tokenizer import WORDS, read_lexicon
from services.training.lexicon import known_words, terms


@pytest.fixture(scope="module")
def known() -> set[str]:
    return known_words()


@pytest.fixture(scope="module")
def shipped() -> dict[str, str]:
    return read_lexicon(ROOT / "models/clip" / LEXICON)


def test_terms_name_places_and_objects_in_known_words(known: set[str]) -> None:
    places, objects = terms(known)
    assert {"meadow", "night", "tiny"} <= {*places}
    assert {"fox", "foxes", "police officer", "fire truck"} <= {*objects}
    assert not {*places} & {*objects}
    assert all(known.issuperset(WORDS.findall(term.lower())) for term in (*places, *objects))


def test_no_known_word_is_read_otherwise_and_every_reading_is_known(
    known: set[str], shipped: dict[str, str]
) -> None:
    assert len(shipped) > 1000
    assert not known & shipped.keys()
    assert all(known.issuperset(WORDS.findall(read_as)) for read_as in shipped.values())


@pytest.mark.parametrize(
    ("word", "read_as"),
    [("grassland", "meadow"), ("woodland", "forest"), ("kitty", "cat"), ("coast", "beach"), ("please", "")],
)
def test_a_word_is_read_as_what_is_nearest(shipped: dict[str, str], word: str, read_as: str) -> None:
    assert shipped[word] == read_as
