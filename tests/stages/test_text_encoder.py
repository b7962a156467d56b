"""Texts: what callers type is words, never a command, and what does not fit is told."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from services.bundles.clip import load_clip
from services.bundles.clip_source import ClipSettings, ClipSource
from services.text_encoder import encoder as module
from services.text_encoder.encoder import TextEncoder
from services.text_encoder.stage import TextEncoderStage
from unclip.internal.v1 import text_encoder_service_pb2


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(load_clip(ClipSource(bundle="models"), 1, "text"))


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


async def test_many_callers_at_once_do_not_disturb_the_tokenizers_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache is trimmed while others fill it; one thread does all of it."""
    monkeypatch.setattr(module, "MAX_WORDS", 3)
    stage = TextEncoderStage(ClipSettings(clip=ClipSource(bundle="models")))
    requests = [
        text_encoder_service_pb2.EncodeTextRequest(texts=[f"word{i} word{i + 1} word{j}" for i in range(4)])
        for j in range(12)
    ]
    answers = await asyncio.gather(*(stage.encode(request) for request in requests))
    assert all(len(answer.texts) == 4 for answer in answers)
    stage.check()
