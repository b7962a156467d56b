"""Content rules of a deployment: words that prompts may not have, and a look at every result.

Both are off unless settings name them. They are hooks, not a promise: a list of words is easily avoided, and
a classifier errs.
"""

from __future__ import annotations

import functools
import html
import importlib
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import regex
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from PIL import Image

from gateway import metrics
from gateway.events import Drawn, Event, Previewed
from gateway.settings import Settings
from gateway.threads import in_thread
from services.editing.pictures import Pixels, flattened
from services.wire.errors import DOMAIN, InvalidInput

# Controls and what Unicode lets programs ignore: joiners, variation selectors and the like.
UNSEEN = regex.compile(r"[[\p{Cc}--\s]\p{Cf}\p{Default_Ignorable_Code_Point}]", regex.VERSION1)
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
WORD = "holds a word that this service does not draw"
PICTURE = "was not given out: it broke this service's content rules; another prompt or seed may do"


class RulesUnusable(Exception):
    """The list of words or the classifier cannot be used; the message says why."""


class ContentRefused(InvalidInput):
    """What was asked for, or came of it, is against the deployment's rules."""

    def details(self) -> Sequence[Message]:
        """The violations, and a reason that programs can read."""
        reason = error_details_pb2.ErrorInfo(reason="CONTENT_REFUSED", domain=DOMAIN)
        return (*super().details(), reason)


class Classifier(Protocol):
    """Looks at pictures, from several threads."""

    def score(self, image: Image.Image, /) -> float:
        """From 0, fine, to 1, not to be given out."""


class ContentRules:
    """Those of a deployment.

    words: one or several words each, compared without regard to case, width or marks that are not seen.
    threshold: pictures with this score or more are not given out.
    """

    def __init__(
        self, words: Sequence[str] = (), classifier: Classifier | None = None, threshold: float = 1.0
    ) -> None:
        self._words = regex.compile("|".join(map(_pattern, words))) if words else None
        self._classifier = classifier
        self._threshold = threshold

    @classmethod
    def of(cls, settings: Settings) -> ContentRules:
        """The rules that the settings name. Raises RulesUnusable."""
        words = _lines(settings.refused_words) if settings.refused_words else []
        classifier = _made(settings.picture_classifier) if settings.picture_classifier else None
        return cls(words, classifier, settings.picture_classifier_threshold)

    def allow_text(self, text: str) -> bool:
        """Whether pictures of a text may be drawn."""
        allowed = self._words is None or not self._words.search(_plain(text))
        if not allowed:
            metrics.content_refusals.labels("word").inc()
        return allowed

    async def judged(self, index: int, event: Event) -> Event | None:
        """An event as it may be told; None: not at all. Raises ContentRefused for a finished picture.

        index: which of the request's pictures it is about.
        """
        if self._classifier is None or not isinstance(event, Drawn | Previewed):
            return event
        score = await in_thread(functools.partial(_score, self._classifier, event.pixels))
        if score < self._threshold:
            return event
        if isinstance(event, Previewed):
            return None
        metrics.content_refusals.labels("picture").inc()
        raise ContentRefused((f"pictures[{index}]", PICTURE))


def _score(classifier: Classifier, pixels: Pixels) -> float:
    return float(classifier.score(flattened(Image.fromarray(pixels).convert("RGBA"))))


def _plain(text: str) -> str:
    """A text with HTML's entities read, as the tokenizer does, without case and what is not seen."""
    read = html.unescape(html.unescape(text))
    seen = UNSEEN.sub("", unicodedata.normalize("NFD", read))
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())


def _pattern(phrase: str) -> str:
    """Where a phrase stands as words of its own; in scripts that have no spaces, anywhere."""
    plain = _plain(phrase).split()
    first, last = plain[0][0], plain[-1][-1]
    before = "" if UNSPACED.match(first) else r"(?<!\w)"
    after = "" if UNSPACED.match(last) else r"(?!\w)"
    return before + r"\s+".join(map(regex.escape, plain)) + after


def _lines(path: str) -> list[str]:
    try:
        lines = [line.strip() for line in Path(path).read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RulesUnusable(f"UNCLIP_REFUSED_WORDS: {path} cannot be read: {error}") from None
    return [line for line in lines if _plain(line).strip() and not line.startswith("#")]


def _made(target: str) -> Classifier:
    """What MODULE:NAME makes."""
    module, _, name = target.partition(":")
    try:
        make: Callable[[], Classifier] = getattr(importlib.import_module(module), name)
        classifier = make()
        _score(classifier, np.zeros((8, 8, 3), np.uint8))
    except Exception as error:  # it is somebody else's code, and says what it says
        raise RulesUnusable(f"UNCLIP_PICTURE_CLASSIFIER: {target} cannot be used: {error}") from None
    return classifier
