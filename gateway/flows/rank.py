"""Rank captions: which of them fits a picture best, by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.events import Warned, text_cut
from gateway.stages import Stages
from gateway.stages.budget import Budget
from gateway.stages.text_encoder import normalised
from services.editing.pictures import Pixels


@dataclass(frozen=True)
class RankedCaption:
    """A caption, its place in the request, and its probability among the request's captions."""

    caption: str
    index: int
    probability: float


async def rank_captions(
    picture: Pixels, captions: Sequence[str], stages: Stages, budget: Budget
) -> tuple[list[RankedCaption], list[Warned]]:
    """Best first, and which captions were cut.

    Probabilities are the softmax of CLIP's scaled cosines (arXiv 2103.00020, section 3.1.2).
    """
    texts = await stages.text_encoder.embed(captions, budget)
    image = await stages.image_encoder.encode(picture, budget, texts.embeddings.shape[1])
    logits = texts.logit_scale * (texts.embeddings @ normalised(image)).astype(np.float64)
    weights = np.exp(logits - logits.max())
    probabilities = weights / weights.sum()
    order = np.argsort(-probabilities, kind="stable")
    ranked = [RankedCaption(captions[i], int(i), float(probabilities[i])) for i in order]
    return ranked, [text_cut(f"captions[{i}]", word) for i, word in enumerate(texts.last_words_read) if word]
