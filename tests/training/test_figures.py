"""What the evaluation measures is what it says: distances, holes, places, shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from services.training.data.backgrounds import BACKGROUNDS
from services.training.data.corpus import scene_at
from services.training.evaluation import judge as judging
from services.training.evaluation.copies import nearest_pictures
from services.training.evaluation.editing import Hole, rectangle, stroke
from services.training.evaluation.findings import Figure, Findings
from services.training.evaluation.language import PARAPHRASES
from services.training.evaluation.measures import frechet, reduced, top1
from services.training.evaluation.report import goal_of


def test_frechet_distance_of_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(20_000, 4, generator=generator) for _ in range(2))
    assert frechet(a, b) == pytest.approx(0, abs=0.01)
    assert frechet(a, b + 3) == pytest.approx(4 * 9, rel=0.02)
    assert frechet(a, 2 * b) == pytest.approx(4 * (2 - 1) ** 2, rel=0.05)


@pytest.mark.parametrize("shape", [rectangle, stroke])
def test_holes_have_the_share_of_the_picture_that_they_should(
    shape: Callable[[np.random.Generator, int], Hole],
) -> None:
    hole = shape(np.random.default_rng(0), 100)
    assert hole.shape == (100, 100)
    assert 0.6 <= hole.mean() <= 1


def test_labels_are_the_scenes_truth() -> None:
    scenes = [scene_at(i) for i in range(40)]
    truth = judging.labels(scenes)
    numbers = judging.object_indices()
    for i, scene in enumerate(scenes):
        assert set(truth.objects[i].nonzero()[:, 0].tolist()) == {numbers[a.name] for a in scene.objects}
        first = scene.placements[0]
        if len(scene.objects) == 1:
            row = int(first.y * judging.CELLS)
            column = int(first.x * judging.CELLS)
            assert truth.places[i, row, column] == numbers[scene.objects[0].name]
            assert (truth.places[i] != len(numbers)).sum() == 1


def test_an_untrained_judge_has_the_shapes_it_says() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    verdicts = judging.verdicts(judging.Judge(), pictures)
    objects = len(judging.object_indices())
    assert verdicts.objects.shape == (3, objects)
    assert verdicts.places.shape == (3, objects, judging.CELLS, judging.CELLS)
    assert verdicts.best_place(0, 5) == divmod(int(verdicts.places[0, 5].argmax()), judging.CELLS)[::-1]
    assert top1(verdicts, verdicts.objects[:, 0].tolist()) == [True] * 3


def test_the_nearest_picture_is_found() -> None:
    seen = np.random.default_rng(1).integers(0, 256, (50, 64, 64, 3)).astype(np.uint8)
    nearest, distances = nearest_pictures(seen[[7, 30]], seen)
    assert nearest == [7, 30]
    assert max(distances) < 1


def test_figures_know_whether_their_goal_is_met() -> None:
    figures = [
        Figure("a", 0.9, 1.0, 10, at_least=0.8),
        Figure("a", 1.2, 1.0, 10, at_most=1.15),
        Figure("a", 1.2, 1.0, 10),
    ]
    assert [figure.met for figure in figures] == [True, False, None]
    assert [goal_of(figure) for figure in figures] == [">= 80.0 %, met", "<= 1.15, not met", "-"]
    findings = Findings()
    assert findings.share("hits", [True, True, False, False], 1.0) == 0.5
    assert findings.figures[0].noise == pytest.approx(0.25)


def test_pictures_are_reduced_to_what_the_judge_looks_at() -> None:
    assert reduced(np.zeros((256, 256, 3), np.uint8)).shape == (64, 64, 3)


def test_every_paraphrase_names_what_the_judge_knows_in_words_of_its_own() -> None:
    rows = [line.split("\t") for line in PARAPHRASES.read_text().splitlines() if not line.startswith("#")]
    assert len(rows) == 300
    assert len({prompt for _, _, prompt in rows}) == 300
    phrases = {phrase for background in BACKGROUNDS for phrase in background.phrases}
    for name, place, prompt in rows:
        assert name in judging.object_indices()
        assert place in {background.name for background in BACKGROUNDS}
        assert not any(phrase in prompt for phrase in phrases), prompt
