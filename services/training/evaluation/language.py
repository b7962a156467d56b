"""Figures of prompts that no caption is like: said otherwise, or with an unknown thing.

The text tower was taught some of their words ("grassland"), with other words beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.training.data.backgrounds import BACKGROUNDS
from services.training.data.captions import with_article
from services.training.evaluation.examiner import Examiner
from services.training.evaluation.judge import Verdicts
from services.training.evaluation.measures import top1

PARAPHRASES = Path(__file__).with_name("paraphrases.tsv")
UNKNOWN = (
    "a wombat",
    "an accordion",
    "a zeppelin",
    "a wheelbarrow",
    "a lighthouse",
    "a plate of lasagne",
    "a harp",
    "a windmill",
    "a canoe",
    "a telescope",
)
KNOWN = 0.5  # how likely an object is in a place, that counts as seen there
SHOWN = 24  # pictures on a sheet


def paraphrases(examiner: Examiner) -> None:
    """Prompts that say what training's captions say, otherwise: object and background, both right."""
    rows = [line.split("\t") for line in PARAPHRASES.read_text().splitlines() if not line.startswith("#")]
    rows = rows[: examiner.count]
    verdicts, pictures = _drawn(examiner, [prompt for _, _, prompt in rows], "paraphrases")
    objects = top1(verdicts, [examiner.numbers[name] for name, _, _ in rows])
    backgrounds = _backgrounds_right(verdicts, [place for _, place, _ in rows])
    both = [a and b for a, b in zip(objects, backgrounds, strict=True)]
    findings = examiner.findings
    findings.share("paraphrases: object right", objects, None)
    findings.share("paraphrases: object and background right", both, None, 0.85)
    missed = [prompt for (_, _, prompt), right in zip(rows, both, strict=True) if not right]
    findings.lists["Paraphrases that were drawn wrong (the first 20)"] = missed[:20]
    findings.sheet("paraphrases", pictures[:SHOWN])


def unknown_beside_known(examiner: Examiner) -> None:
    """A thing outside the vocabulary is named beside a known one: that one should be there, and no other."""
    scenes = examiner.scenes("one", 8)[: examiner.count]
    prompts = []
    for i, scene in enumerate(scenes):
        place = scene.background.phrases[0]
        prompts.append(f"{with_article(scene.objects[0].name)} and {UNKNOWN[i % len(UNKNOWN)]} {place}")
    verdicts, pictures = _drawn(examiner, prompts, "unknown beside known")
    objects = top1(verdicts, [examiner.numbers[scene.objects[0].name] for scene in scenes])
    backgrounds = _backgrounds_right(verdicts, [scene.background.name for scene in scenes])
    right = [a and b for a, b in zip(objects, backgrounds, strict=True)]
    seen = (verdicts.places.amax((2, 3)) > KNOWN).sum(1).tolist()
    findings = examiner.findings
    findings.share("unknown beside known: the known right", right, None, 0.8)
    findings.share("unknown beside known: no other object seen", [count <= 1 for count in seen], None, 0.8)
    findings.sheet("unknown-beside-known", pictures[:SHOWN])


def _drawn(examiner: Examiner, prompts: Sequence[str], what: str) -> tuple[Verdicts, list[np.ndarray]]:
    made: list[np.ndarray] = []
    for part in examiner.batches(what, len(prompts)):
        seed = examiner.seed + part.start
        made += list(examiner.painter.generate(prompts[part], examiner.settings, seed))
    return examiner.judged(made), made


def _backgrounds_right(verdicts: Verdicts, places: Sequence[str]) -> list[bool]:
    numbers = {background.name: i for i, background in enumerate(BACKGROUNDS)}
    wanted = [numbers[place] for place in places]
    return [seen == number for seen, number in zip(verdicts.backgrounds.tolist(), wanted, strict=True)]
