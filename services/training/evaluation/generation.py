"""Figures of pictures that are drawn from prompts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from services.training.data.scenes import Scene
from services.training.evaluation import judge as judging
from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import Figure, beside
from services.training.evaluation.judge import CELLS, Verdicts
from services.training.evaluation.measures import frechet, roughness, top1
from services.training.evaluation.painter import Pictures
from services.training.evaluation.sharpness import edge_width

SHOWN = 24  # pictures on a sheet, or half as many beside real scenes
BESIDE = SHOWN // 2
WORST = 20  # objects in the list of those drawn worst
FRONT_DISTANCE = 0.42  # of the side; an object that is closer than that, and lower, is in front
UNKNOWN_THINGS = (
    "a wombat",
    "an accordion",
    "a zeppelin",
    "a plate of lasagne",
    "democracy",
    "a purple tiger with wings",
)
UNKNOWN_PLACES = ("in a meadow", "in a submarine", "on the moon", "")


def one_object(examiner: Examiner) -> None:
    """One-object prompts of the training split and of the held-out pairs, and how like scenes they look."""
    scenes, pictures, hits = _split(examiner, "training", 0, 0.92)
    examiner.findings.sheet("generate-training", pictures[:SHOWN])
    _note_worst(examiner, scenes, hits)
    scenes, pictures, _ = _split(examiner, "held-out", 1, 0.88)
    real = examiner.real(scenes[:BESIDE], examiner.settings.size)
    examiner.findings.sheet("generate-held-out", beside(pictures[:BESIDE], list(real)))


def _split(
    examiner: Examiner, split: str, salt: int, goal: float
) -> tuple[list[Scene], list[Pictures], list[bool]]:
    """Note the figures of one split. Return its scenes, their pictures, and whether the object is right.

    goal: of the share of these.
    """
    scenes = examiner.scenes("one", salt, held_out=split == "held-out")
    pictures = examiner.drawn(scenes, f"one object, {split} pairs")
    made = examiner.judged(pictures)
    real = examiner.judged(examiner.real(scenes))
    wanted = [examiner.numbers[s.objects[0].name] for s in scenes]
    hits = top1(made, wanted)
    ceiling = float(np.mean(top1(real, wanted)))
    findings = examiner.findings
    findings.share(f"object is the judge's first, {split} pairs", hits, ceiling, goal)
    truth = judging.labels(scenes).backgrounds
    right = (made.backgrounds == truth).tolist()
    right_of_real = float((real.backgrounds == truth).float().mean())
    findings.share(f"background right, {split} pairs", right, right_of_real, 0.98)
    _note_likeness(examiner, pictures, scenes, split)
    return scenes, list(pictures), hits


def _note_likeness(examiner: Examiner, pictures: Pictures, scenes: Sequence[Scene], split: str) -> None:
    """How much pictures look like scenes, at the size that a caller gets."""
    size = examiner.settings.size
    real = examiner.real(scenes, size)
    others = examiner.scenes("one", 50, held_out=split == "held-out")
    other = examiner.features(examiner.real(others, size))
    features = examiner.features(real)
    value = frechet(examiner.features(pictures), features) / frechet(other, features)
    name = f"Frechet distance at {size} px in ImageNet features, over real against real, {split} pairs"
    examiner.findings.figures.append(Figure(name, value, 1.0, examiner.count))
    name = f"width of the strongest edges, over real scenes', {split} pairs"
    width = edge_width(pictures) / edge_width(real)
    examiner.findings.figures.append(Figure(name, width, 1.0, examiner.count, at_most=1.3))


def _note_worst(examiner: Examiner, scenes: Sequence[Scene], hits: Sequence[bool]) -> None:
    by_name: dict[str, list[bool]] = defaultdict(list)
    for scene, hit in zip(scenes, hits, strict=True):
        by_name[scene.objects[0].name].append(hit)
    ranked = sorted(by_name.items(), key=lambda item: (np.mean(item[1]), item[0]))
    worst = [f"{name} ({sum(own)} of {len(own)})" for name, own in ranked[:WORST]]
    examiner.findings.lists[f"The {WORST} objects drawn worst (share right)"] = worst


def two_objects(examiner: Examiner) -> None:
    """Two-object prompts: are both objects there, and do they stand as the prompt says?"""
    scenes = examiner.scenes("pair", 2)
    pictures = examiner.drawn(scenes, "two objects")
    made = examiner.judged(pictures)
    real = examiner.judged(examiner.real(scenes))
    found = _both_found(examiner, made, scenes)
    found_in_real = _both_found(examiner, real, scenes)
    ceiling = float(np.mean(found_in_real))
    examiner.findings.share("both objects found", found, ceiling, 0.75)
    right = [_stands(examiner, made, i, s) for i, s in enumerate(scenes) if found[i]]
    right_in_real = [_stands(examiner, real, i, s) for i, s in enumerate(scenes) if found_in_real[i]]
    limit = float(np.mean(right_in_real)) if right_in_real else None
    examiner.findings.share("relation right, where both are found", right, limit, 0.9)
    beneath = examiner.real(scenes[:BESIDE], examiner.settings.size)
    examiner.findings.sheet("two-objects", beside(list(pictures[:BESIDE]), list(beneath)))


def _both_found(examiner: Examiner, verdicts: Verdicts, scenes: Sequence[Scene]) -> list[bool]:
    """Whether the judge's first two objects are the scene's, for each picture."""
    seen = [set(row[:2].tolist()) for row in verdicts.objects]
    wanted = [{examiner.numbers[a.name] for a in s.objects} for s in scenes]
    return [two == pair for two, pair in zip(wanted, seen, strict=True)]


def _stands(examiner: Examiner, verdicts: Verdicts, picture: int, scene: Scene) -> bool:
    """Whether the two objects of a picture stand as its scene says."""
    (ax, ay), (bx, by) = (verdicts.best_place(picture, examiner.numbers[a.name]) for a in scene.objects)
    distance = math.hypot(ax - bx, ay - by) / CELLS
    return {
        "left": ax < bx and abs(ax - bx) >= abs(ay - by),
        "right": ax > bx and abs(ax - bx) >= abs(ay - by),
        "above": ay < by and abs(ay - by) >= abs(ax - bx),
        "below": ay > by and abs(ay - by) >= abs(ax - bx),
        "beside": abs(ax - bx) >= abs(ay - by),
        "front": ay > by and distance < FRONT_DISTANCE,
    }[scene.relation]


def outside_vocabulary(examiner: Examiner) -> None:
    """Prompts with words that no scene has: the picture should still be a picture."""
    prompts = [f"{thing} {place}" for thing in UNKNOWN_THINGS for place in UNKNOWN_PLACES]
    made = examiner.painter.generate(prompts, examiner.settings, examiner.seed)
    real = examiner.real(examiner.scenes("one", 8)[: len(prompts)], examiner.settings.size)
    findings = examiner.findings
    name = "words outside the vocabulary: roughness over real scenes'"
    findings.figures.append(Figure(name, roughness(made) / roughness(real), 1.0, len(made), at_most=1.5))
    findings.sheet("outside-vocabulary", list(made), len(UNKNOWN_PLACES))
    findings.lists["Prompts outside the vocabulary, as on the sheet"] = prompts
