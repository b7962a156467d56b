"""Whether pictures are copies: drawn pictures beside those of the corpus that are most like them."""

from __future__ import annotations

import numpy as np
import torch

from services.training.data.corpus import Corpus
from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import beside
from services.training.evaluation.measures import reduced
from services.training.evaluation.painter import Pictures

COUNT = 12
PART = 2048  # pictures of the corpus that are compared at a time


def note_copies(examiner: Examiner, corpus: Corpus) -> None:
    """Add a sheet of pictures with their nearest training pictures below them, and the distances."""
    rng = np.random.default_rng((examiner.seed, 6))
    prompts = [s.caption for s in examiner.scenes("one", 6)[:COUNT]]
    drawn = examiner.painter.generate(prompts, examiner.settings, int(rng.integers(2**31)))
    made = np.stack([reduced(p) for p in drawn])
    nearest, distances = nearest_pictures(made, corpus.pictures)
    sheet = beside(list(drawn), list(corpus.pictures[nearest]))
    examiner.findings.sheet("nearest-training-pictures", sheet)
    name = f"Root mean squared difference (of 255) of {COUNT} pictures to their nearest training picture"
    examiner.findings.lists[name] = [f"{d:.0f}" for d in distances]


def nearest_pictures(made: Pictures, seen: Pictures) -> tuple[list[int], list[float]]:
    """Which of ``seen`` is nearest to each of ``made``, and how far it is.

    made, seen: (B, S, S, 3). The distance is the root mean squared difference.
    """
    flat = torch.from_numpy(made).flatten(1).float()
    best = torch.full((len(made),), torch.inf)
    where = torch.zeros(len(made), dtype=torch.long)
    for start in range(0, len(seen), PART):
        part = torch.from_numpy(np.array(seen[start : start + PART])).flatten(1).float()
        low, index = torch.cdist(flat, part).min(1)
        where = torch.where(low < best, index + start, where)
        best = torch.minimum(best, low)
    return where.tolist(), (best / flat.shape[1] ** 0.5).tolist()
