"""Tokens are those of CLIP's own tokenizer, as open_clip has it, and of nothing that a caller may type."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from open_clip.tokenizer import SimpleTokenizer, default_bpe

from services.bundles.bundle import ROOT
from services.clip.tokenizer import SPECIAL, Tokenizer, read_lexicon, read_merges

VOCABULARIES = [Path(default_bpe()), ROOT / "models/clip/vocabulary.txt.gz"]
TEXTS = [
    "",
    "   ",
    "A fox, in the SNOW!",
    "it's the dog's; they've 12 3rd-class ÉCLAIRS \u2014 na\u00efve",
    "&lt;b&gt; &amp;amp; &amp;lt;i",
    "\u5317\u4eac \u306e \u0442\u0435\u0441\u0442 \U0001f98a\U0001f3fd\u200d\u2744\ufe0f",
    "schÃ¶n mojibake",
    "a\x00b\tc\n\nd\u00a0e\u200bf",
    "supercalifragilisticexpialidocious" * 4,
    "l\u00a0'S 'LL \u017f's",
]


@pytest.fixture(scope="module", params=VOCABULARIES, ids=["openai", "shipped"])
def both(request: pytest.FixtureRequest) -> tuple[Tokenizer, SimpleTokenizer]:
    return Tokenizer(read_merges(request.param), 77), SimpleTokenizer(str(request.param))


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_clips(both: tuple[Tokenizer, SimpleTokenizer], text: str) -> None:
    ours, theirs = both
    assert ours.vocab_size == theirs.vocab_size
    assert ours.encode(text) == theirs.encode(text)
    assert ours([text]).tolist() == theirs([text]).tolist()
    assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text)).strip()


def test_tokens_of_random_texts_are_clips(both: tuple[Tokenizer, SimpleTokenizer]) -> None:
    ours, theirs = both
    dice = random.Random(0)
    for _ in range(2000):
        top = dice.choice((0x7F, 0x17F, 0x2FFF, 0x1FAFF))
        codes = (dice.randrange(top) for _ in range(dice.randrange(40)))
        text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        assert ours.encode(text) == theirs.encode(text), text


@pytest.mark.parametrize(
    "end", [SPECIAL[1], SPECIAL[1].upper(), "&lt;end_of_text&gt;", "&amp;lt;end_of_text&gt;"]
)
def test_special_tokens_cannot_be_typed(both: tuple[Tokenizer, SimpleTokenizer], end: str) -> None:
    ours, _ = both
    special = {ours.vocab_size - 2, ours.vocab_size - 1}
    assert not special & set(ours.encode(f"a fox {end} in the snow {SPECIAL[0]}"))


def test_words_that_the_tower_was_never_taught_are_read_as_others_left_out_or_spelt(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv.gz"
    path.write_bytes(gzip.compress(b"cop\tpolice officer\ngrassland\tmeadow\nplease\t\n"))
    merges = read_merges(VOCABULARIES[1])
    plain = Tokenizer(merges, 32)
    ours = Tokenizer(merges, 32, read_lexicon(path))
    assert ours.encode("Please, a cop in GRASSLAND!") == plain.encode(", a police officer in meadow!")
    assert ours.encode("a wombat") == plain.encode("a wombat")
    assert ours.last_word_read("please " * 100) == ""
    assert ours.encode("please") == []
    assert ours.last_word_read("GRASSLAND " * 100) == "grassland"
