"""CLIP's tokenizer: byte pairs, learnt within words of lower case.

It gives what OpenAI's own gives (https://github.com/openai/CLIP), but that its special tokens cannot be
typed: what a caller writes is words, never a command.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import ftfy
import regex
import torch
from torch import Tensor

END_OF_WORD = "</w>"
SPECIAL = ("<start_of_text>", "<end_of_text>")
MOST_MERGES = 49152 - 256 - 2  # as many as CLIP uses of its list
CACHED_WORDS = 50_000
WORDS = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE | regex.UNICODE
)


def byte_symbols() -> list[str]:
    """A visible character for each byte, by the byte, in a fixed way."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in visible else chr(next(spare)) for byte in range(256)]


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Pairs of symbols, the first to be joined first, from ``merges.txt`` or its gzip. Raises OSError."""
    read = gzip.open if path.suffix == ".gz" else open
    with read(path, "rt", encoding="utf-8") as file:
        lines = [line.split() for line in file.read().split("\n")[1:] if line]  # the first tells the version
    return [(first, second) for first, second in lines[:MOST_MERGES]]


def clean(text: str) -> str:
    """Broken encodings mended, HTML's entities read, in lower case, with single spaces."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


def read_lexicon(path: Path) -> dict[str, str]:
    """What words are read as, from lines of a word, a tab, and other words or none. Raises OSError."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = (line.rstrip("\n").partition("\t") for line in file)
        return {word: read_as for word, _, read_as in rows}


class Tokenizer:
    """Texts to token ids.

    context_length: of every text, with start and end; what is longer is cut. lexicon: what words that the
    tower was never taught are read as; none: they are left out. Any other word is spelt in byte pairs.
    """

    def __init__(
        self,
        merges: Sequence[tuple[str, str]],
        context_length: int,
        lexicon: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.context_length = context_length
        self._lexicon = lexicon
        self._symbols = byte_symbols()
        ordered = sorted(self._symbols)  # ids follow characters, not bytes
        words = [*ordered, *(f"{symbol}{END_OF_WORD}" for symbol in ordered)]
        self._tokens = [*words, *(first + second for first, second in merges), *SPECIAL]
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self._ranks = {pair: i for i, pair in enumerate(merges)}
        self._start, self._end = (self._ids[token] for token in SPECIAL)
        self._ids_of_word = lru_cache(CACHED_WORDS)(self._read_word)

    @property
    def ends(self) -> tuple[int, int]:
        """The ids of the start and the end of every text."""
        return self._start, self._end

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return len(self._tokens)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids (B, L): start, text, end, then zeros."""
        ids = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            own = [self._start, *self.encode(text)[: self.context_length - 2], self._end]
            row[: len(own)] = torch.tensor(own)
        return ids

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, however long, without start and end."""
        return [token for word in WORDS.findall(clean(text)) for token in self._ids_of_word(word)]

    def decode(self, ids: Sequence[int]) -> str:
        """Words with spaces between."""
        joined = "".join(self._tokens[i] for i in ids).replace(END_OF_WORD, " ")
        values = {symbol: byte for byte, symbol in enumerate(self._symbols)} | {" ": ord(" ")}
        return bytes(values[symbol] for symbol in joined).decode("utf-8", errors="replace").strip()

    def last_word_read(self, text: str) -> str:
        """The last word that fits whole into the context, as written; empty if all of the text fits."""
        room = self.context_length - 2
        last = ""
        for word in WORDS.findall(clean(text)):
            room -= len(self._ids_of_word(word))
            if room < 0:
                return last
            last = word
        return ""

    def _read_word(self, word: str) -> tuple[int, ...]:
        read_as = self._lexicon.get(word, word)
        return tuple(token for known in WORDS.findall(read_as) for token in self._encode_word(known))

    def _encode_word(self, word: str) -> tuple[int, ...]:
        parts = [self._symbols[byte] for byte in word.encode()]
        parts[-1] += END_OF_WORD
        while len(parts) > 1:
            pair = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, MOST_MERGES))
            if pair not in self._ranks:
                break
            parts = _joined(parts, pair)
        return tuple(self._ids[part] for part in parts)


def _joined(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """The parts with every occurrence of the pair as one, from left to right."""
    found: list[str] = []
    i = 0
    while i < len(parts):
        pairs = i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair
        found.append(parts[i] + parts[i + 1] if pairs else parts[i])
        i += 1 + pairs
    return found
