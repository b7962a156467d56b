"""Figures of variations of given pictures."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import Figure, beside
from services.training.evaluation.painter import Pictures

SIMILARITY = 0.3
SIMILARITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COMPARED = 40  # pictures, at most, that are varied at each of SIMILARITIES
SHOWN = 12  # pictures on a sheet


def variations(examiner: Examiner) -> None:
    """Variations of real scenes: is the object still there, and does similarity do what it says?"""
    scenes = examiner.scenes("one", 5)
    given = examiner.real(scenes, examiner.settings.size)
    varied = [
        examiner.painter.vary(given[part], SIMILARITY, examiner.settings, examiner.seed + part.start)
        for part in examiner.batches("variations")
    ]
    made = np.concatenate(varied)
    seen = examiner.judged(given).objects[:, 0]
    kept = examiner.judged(made).objects[:, 0]
    findings = examiner.findings
    findings.share("variations: judge's first object kept", (seen == kept).tolist(), 1.0, 0.85)
    findings.sheet("vary", beside(list(made[:SHOWN]), list(given[:SHOWN])))
    _note_distances(examiner, given[: min(examiner.count, COMPARED)])


def _note_distances(examiner: Examiner, given: Pictures) -> None:
    """Note how far variations are from the given pictures at each similarity."""
    distances = []
    for similarity in SIMILARITIES:
        made = examiner.painter.vary(given, similarity, examiner.settings, examiner.seed)
        distances.append(float(np.abs(made.astype(np.float32) - given).mean()))
    falling = all(a > b for a, b in pairwise(distances))
    name = "Mean difference to the given picture (of 255) at similarity 0, 0.2, ... 1"
    examiner.findings.lists[name] = [f"{d:.1f}" for d in distances]
    name = "variations: similarity moves monotonically (1 = yes)"
    examiner.findings.figures.append(Figure(name, float(falling), None, len(given), at_least=1.0))
