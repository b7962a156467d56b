"""How different four pictures of one prompt are, over four scenes with that caption."""

from __future__ import annotations

import torch
from torch import Tensor

from services.training.data.scenes import alike, render
from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import Figure

SEEDS = 4
PROMPTS = 200  # at most
SHOWN = 6  # prompts on a sheet


def variety(examiner: Examiner) -> None:
    """Distances between pictures of one prompt, over those between scenes that it describes as well.

    In features of photographs; and between the places where the judge sees the object.
    """
    scenes = examiner.scenes("one", 9)[: min(PROMPTS, examiner.count)]
    size = examiner.settings.size
    drawn = []
    real = []
    places: list[list[tuple[float, float]]] = [[], []]  # where the object is, drawn and real
    sheet = []
    for part in examiner.batches("variety", len(scenes)):
        prompts = [scene.caption for scene in scenes[part] for _ in range(SEEDS)]
        made = examiner.painter.generate(prompts, examiner.settings, examiner.seed + SEEDS * part.start)
        drawn.append(examiner.features(made))
        rng = examiner.generator(part.start)
        others = [render(alike(rng, scene), size) for scene in scenes[part] for _ in range(SEEDS)]
        real.append(examiner.features(others))
        wanted = [examiner.numbers[scene.objects[0].name] for scene in scenes[part] for _ in range(SEEDS)]
        for found, pictures in zip(places, (list(made), others), strict=True):
            seen = examiner.judged(pictures)
            found += [seen.best_place(i, number) for i, number in enumerate(wanted)]
        sheet += list(made)
    ratio = _spread(torch.cat(drawn)) / _spread(torch.cat(real))
    _note(examiner, "mean distance between four seeds of a prompt", ratio, len(scenes))
    apart, apart_in_real = (_spread(torch.tensor(found)) for found in places)
    _note(examiner, "mean distance between the object's places in them", apart / apart_in_real, len(scenes))
    examiner.findings.sheet("variety", sheet[: SEEDS * SHOWN], SEEDS)


def _note(examiner: Examiner, what: str, ratio: float, count: int) -> None:
    name = f"variety: {what}, over real scenes' of its caption"
    examiner.findings.figures.append(Figure(name, ratio, 1.0, count, at_least=0.8, at_most=2.0))


def _spread(features: Tensor) -> float:
    """The mean distance between one prompt's pictures in their features, (prompts x SEEDS, F)."""
    groups = features.view(-1, SEEDS, features.shape[1])
    distances = torch.cdist(groups, groups).sum((1, 2)) / (SEEDS * (SEEDS - 1))
    return float(distances.mean())
