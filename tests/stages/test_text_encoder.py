"""Texts: what callers type is words, never a command, and what does not fit is told."""

from __future__ import annotations

import numpy as np
import pytest

from services.bundles.clip import load_text_tower
from services.bundles.clip_source import ClipSource
from services.text_encoder.encoder import TextEncoder


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(load_text_tower(ClipSource(bundle="models"), 1))


@pytest.mark.parametrize(
    "end", ["<end_of_text>", "<END_OF_TEXT>", "&lt;end_of_text&gt;", "&amp;amp;lt;end_of_text&gt;"]
)
def test_a_typed_special_token_does_not_end_the_text(encoder: TextEncoder, end: str) -> None:
    plain, typed = encoder.encode(["a fox", f"a fox {end} in the snow"])
    assert typed.mask.sum() > plain.mask.sum() + 3
    assert np.abs(typed.embedding - plain.embedding).max() > 1e-3


def test_a_text_that_is_cut_tells_the_last_word_that_was_read(encoder: TextEncoder) -> None:
    words = [f"fox{'y' * (i % 3)}" for i in range(60)]
    whole, cut = encoder.encode(["a fox in the snow", " ".join(words)])
    assert whole.last_word_read == ""
    assert cut.last_word_read in words
