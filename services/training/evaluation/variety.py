"""How different four pictures of one prompt are, over four scenes with that caption."""

from __future__ import annotations

import torch
from torch import Tensor

from services.training.data.scenes import alike, render
from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import Figure

SEEDS = 4
PROMPTS = 200  # at most
SHOWN = 8  # prompts on a sheet


def variety(examiner: Examiner) -> None:
    """Distances between pictures of one prompt, in features of photographs, over those between scenes."""
    scenes = examiner.scenes("one", 9)[: min(PROMPTS, examiner.count)]
    size = examiner.settings.size
    drawn = []
    real = []
    sheet = []
    for part in examiner.batches("variety", len(scenes)):
        prompts = [scene.caption for scene in scenes[part] for _ in range(SEEDS)]
        made = examiner.painter.generate(prompts, examiner.settings, examiner.seed + SEEDS * part.start)
        drawn.append(examiner.features(made))
        rng = examiner.generator(part.start)
        others = [render(alike(rng, scene), size) for scene in scenes[part] for _ in range(SEEDS)]
        real.append(examiner.features(others))
        sheet += list(made)
    ratio = _spread(torch.cat(drawn)) / _spread(torch.cat(real))
    name = "variety: mean distance between four seeds of a prompt, over real scenes' of its caption"
    examiner.findings.figures.append(Figure(name, ratio, 1.0, len(scenes), at_least=0.8, at_most=2.0))
    examiner.findings.sheets.append(("variety", sheet[: SEEDS * SHOWN]))


def _spread(features: Tensor) -> float:
    """The mean distance between the features of one prompt's pictures, (prompts x SEEDS, F)."""
    groups = features.view(-1, SEEDS, features.shape[1])
    distances = torch.cdist(groups, groups).sum((1, 2)) / (SEEDS * (SEEDS - 1))
    return float(distances.mean())
