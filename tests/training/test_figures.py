"""What the evaluation measures is what it says: distances, seams, places, shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.training.data.corpus import scene_at
from services.training.evaluation import judge as judging
from services.training.evaluation.copies import nearest_pictures
from services.training.evaluation.editing import hole_for
from services.training.evaluation.findings import Figure, Findings
from services.training.evaluation.measures import frechet, reduced, seam, step_in_tone, top1
from services.training.evaluation.report import goal_of


def test_frechet_distance_of_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(20_000, 4, generator=generator) for _ in range(2))
    assert frechet(a, b) == pytest.approx(0, abs=0.01)
    assert frechet(a, b + 3) == pytest.approx(4 * 9, rel=0.02)
    assert frechet(a, 2 * b) == pytest.approx(4 * (2 - 1) ** 2, rel=0.05)


def test_a_seam_is_seen_where_there_is_one() -> None:
    noise = np.random.default_rng(0).integers(100, 140, (8, 32, 64, 3)).astype(np.uint8)
    assert seam(list(noise), 32) == pytest.approx(1, abs=0.05)
    noise[:, :, 32:] += 80
    assert seam(list(noise), 32) > 3
    assert seam(list(noise), 20) == pytest.approx(1, abs=0.1)


def test_a_step_in_tone_is_one_of_the_whole_border_not_of_an_object_there() -> None:
    sky = np.zeros((64, 96, 3), np.uint8)
    sky[:] = np.linspace(0, 200, 64).astype(np.uint8)[:, None, None]  # darker above, the same on both sides
    assert step_in_tone([sky], 64) == 0
    sky[:16, 50:64] = 255  # an object that ends at the border
    assert step_in_tone([sky], 64) == 0
    lighter = sky.copy()
    lighter[:, 64:] += 20
    assert step_in_tone([lighter, sky], 64) == pytest.approx(10, abs=1)


def test_holes_cover_the_first_object() -> None:
    for i in range(40):
        scene = scene_at(i)
        hole = hole_for(scene, 256)
        place = scene.placements[0]
        assert hole[min(int(place.y * 256), 255), min(int(place.x * 256), 255)]
        assert hole.mean() == pytest.approx((1.1 * place.side) ** 2, abs=0.3)


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
