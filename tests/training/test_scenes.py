"""Scenes: what the captions say is what is drawn, and the held-out pairs stay out."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from services.training.artwork import load_vocabulary
from services.training.backgrounds import BACKGROUNDS
from services.training.holes import sample_keep
from services.training.scenes import SIZES, compose, is_held_out, render, sample_scene, with_article


def test_the_vocabulary_has_its_artwork() -> None:
    vocabulary = load_vocabulary()
    assert len(vocabulary) >= 100
    assert len({a.name for a in vocabulary}) == len(vocabulary)
    words = [w for a in vocabulary for w in (a.name, *a.synonyms)]
    assert len(set(words)) == len(words), "a word stands for one object only"
    assert all(a.path.exists() for a in vocabulary)
    assert len(BACKGROUNDS) >= 10


def test_the_split_is_the_one_that_is_documented() -> None:
    for name, background in (("red apple", "beach"), ("fox", "snow"), ("owl", "night sky")):
        assert is_held_out(name, background) == (hashlib.sha256(f"{name}|{background}".encode()).digest()[0] < 26)
    pairs = [is_held_out(a.name, b.name) for a in load_vocabulary() for b in BACKGROUNDS]
    assert 0.07 < np.mean(pairs) < 0.13


@pytest.mark.parametrize("held_out", [False, True])
def test_no_scene_leaves_its_split(held_out: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        scene = sample_scene(rng, held_out=held_out)
        assert all(is_held_out(a.name, scene.background.name) == held_out for a in scene.objects)


def test_captions_say_what_is_there() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = sample_scene(rng)
        assert any(phrase in scene.caption for phrase in scene.background.phrases)
        for artwork in scene.objects:
            assert any(with_article(word) in scene.caption for word in (artwork.name, *artwork.synonyms))


def test_relations_hold_in_the_picture() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        scene = sample_scene(rng, count=2)
        first, second = scene.placements
        if scene.relation in ("left", "right"):
            assert (first.x < second.x) == (scene.relation == "left")
        if scene.relation in ("above", "below"):
            assert (first.y < second.y) == (scene.relation == "above")
        assert SIZES[2][0] <= first.side <= SIZES[2][1]


def test_scenes_are_the_same_at_every_size_and_in_every_run() -> None:
    pictures, scenes = compose(np.random.default_rng(3), 2, 64)
    again, _ = compose(np.random.default_rng(3), 2, 64)
    np.testing.assert_array_equal(pictures, again)
    large = render(scenes[0], 256)
    assert large.shape == (256, 256, 3)
    reduced = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(reduced - pictures[0]).mean() < 8


def test_holes_leave_something_and_hide_something() -> None:
    rng = np.random.default_rng(4)
    keeps = [sample_keep(rng, 64, all_hidden=0.0) for _ in range(200)]
    assert all(set(np.unique(k)) <= {0.0, 1.0} for k in keeps)
    assert all((k == 0).any() for k in keeps)
    assert np.mean([k.any() for k in keeps]) > 0.95
    assert not sample_keep(rng, 64, all_hidden=1.0).any()
