"""Scenes: what the captions say is what is drawn, and the held-out pairs stay out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from services.training.data.artwork import load_vocabulary, sprite
from services.training.data.backgrounds import BACKGROUNDS
from services.training.data.captions import ENGLISH
from services.training.data.corpus import Corpus, scene_at
from services.training.data.holes import draw_edits, sample_keep
from services.training.data.light import LIGHTS, Light
from services.training.data.placing import FRONT_SIDES, GRID, SAID_SIDES, SIDES, Placement
from services.training.data.rewording import in_other_words, load_wordings, unknown_word
from services.training.data.scenes import Scene, alike, is_held_out, render, sample_scene
from services.training.evaluation.language import PARAPHRASES


def test_the_vocabulary_has_its_artwork() -> None:
    vocabulary = load_vocabulary()
    assert len(vocabulary) >= 190
    assert np.mean([bool(a.vector) for a in vocabulary]) > 0.95
    assert len({a.name for a in vocabulary}) == len(vocabulary)
    words = [w for a in vocabulary for w in (a.name, *a.synonyms)]
    assert len(set(words)) == len(words), "a word stands for one object only"
    assert all(a.path.exists() for a in vocabulary)
    assert len(BACKGROUNDS) >= 10


def test_the_split_is_the_one_that_is_documented() -> None:
    for name, background in (("red apple", "beach"), ("fox", "snow"), ("owl", "night sky")):
        assert is_held_out(name, background) == (
            hashlib.sha256(f"{name}|{background}".encode()).digest()[0] < 26
        )
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
    for _ in range(500):
        scene = sample_scene(rng)
        places = [word.removeprefix("a ").removeprefix("the ") for word in scene.background.nouns]
        assert any(word in scene.caption for word in (*scene.background.phrases, *places)), scene.caption
        assert not scene.light.phrases or any(phrase in scene.caption for phrase in scene.light.phrases)
        for artwork in scene.objects:
            words = [artwork.name, *artwork.synonyms]
            if scene.relation == "same":
                words = [ENGLISH.plural_noun(word) for word in words]
            assert any(word in scene.caption for word in words), scene.caption


def test_captions_have_many_wordings() -> None:
    rng = np.random.default_rng(4)
    captions = [sample_scene(rng).caption for _ in range(2000)]
    assert len({c.split()[0] for c in captions}) > 100
    assert 0.05 < np.mean([" a " not in f" {c}" and " the " not in f" {c}" for c in captions]) < 0.5


def test_no_caption_of_training_is_a_paraphrase_of_the_evaluation() -> None:
    lines = [line for line in PARAPHRASES.read_text().splitlines() if not line.startswith("#")]
    asked = {line.split("\t")[2].lower() for line in lines}
    rng = np.random.default_rng(5)
    assert len(asked) == 300
    scenes = [sample_scene(rng) for _ in range(20_000)]
    assert not asked & {scene.caption.lower() for scene in scenes}
    assert not asked & {in_other_words(rng, scene).lower() for scene in scenes}


def test_relations_hold_in_the_picture() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        scene = sample_scene(rng, arrangement="pair")
        first, second = scene.placements
        if scene.relation in ("left", "right"):
            assert (first.x < second.x) == (scene.relation == "left")
        if scene.relation in ("above", "below"):
            assert (first.y < second.y) == (scene.relation == "above")
        if scene.relation == "front":
            assert first.y > second.y
            assert first.side < second.side
            _within([first], FRONT_SIDES[0])
            _within([second], FRONT_SIDES[1])
        else:
            _within(scene.placements, SIDES[2])
            apart = max(abs(first.x - second.x), abs(first.y - second.y))
            assert apart >= (first.side + second.side) / 2 - 1 / GRID, "they do not overlap"


def test_counts_and_sizes_hold_in_the_picture() -> None:
    rng = np.random.default_rng(6)
    for _ in range(100):
        same = sample_scene(rng, arrangement="same")
        assert len(set(same.objects)) == 1
        assert ("two" in same.caption or "2" in same.caption or "a pair" in same.caption) == (
            len(same.objects) == 2
        )
        one = sample_scene(rng, arrangement="one")
        _within(one.placements, SAID_SIDES[one.size] if one.size else SIDES[1])


def _within(placements: Iterable[Placement], sides: tuple[int, int]) -> None:
    least, most = sides
    assert all(least <= place.side * GRID <= most for place in placements)
    assert all(place.side / 2 <= c <= 1 - place.side / 2 for place in placements for c in (place.x, place.y))


def test_place_size_pose_light_and_backdrop_vary() -> None:
    rng = np.random.default_rng(7)
    scenes = [sample_scene(rng, arrangement="one") for _ in range(300)]
    placements = [scene.placements[0] for scene in scenes]
    assert np.std([p.x for p in placements]) > 0.1
    assert np.std([p.y for p in placements]) > 0.1
    assert len({p.side for p in placements}) > 10
    assert len({p.tilt for p in placements}) == 5
    assert {p.mirrored for p in placements} == {True, False}
    assert np.std([scene.gain for scene in scenes], axis=0).min() > 0.03
    assert len({(scene.background.name, scene.variant) for scene in scenes}) > 250


def test_a_tilted_object_stays_where_it_is_and_turns() -> None:
    fox = next(artwork for artwork in load_vocabulary() if artwork.name == "fox")
    upright = np.asarray(sprite(fox, 60), float)
    for side, tilt in ((60, 16.0), (300, -16.0)):
        plain, tilted = (np.asarray(sprite(fox, side, t), float)[..., 3] for t in (0.0, tilt))
        assert tilted.shape[0] == pytest.approx(side * 1.237, abs=2)
        assert tilted.sum() == pytest.approx(plain.sum(), rel=0.03), "of the same size"
    mirrored = np.asarray(sprite(fox, 60, mirrored=True), float)
    np.testing.assert_array_equal(mirrored[:, ::-1], upright)


def test_light_changes_the_place_and_less_so_the_objects() -> None:
    rng = np.random.default_rng(8)
    scene = next(
        s
        for s in iter(lambda: sample_scene(rng, arrangement="one"), None)
        if s.background.outdoors and not s.light.phrases
    )
    empty = replace(scene, objects=(), placements=())
    x, y = (int(v * 64) for v in (scene.placements[0].x, scene.placements[0].y))
    for light in LIGHTS:
        place = _change(empty, light)
        assert place.mean() > 0.05, light.name
        assert _change(scene, light)[y, x] < place.max(), light.name


def _change(scene: Scene, light: Light) -> npt.NDArray[np.float64]:
    """By what part each pixel of the scene changes in another light."""
    day, lit = (render(s, 64).astype(float) for s in (scene, replace(scene, light=light)))
    change: npt.NDArray[np.float64] = np.abs(lit - day).mean(2) / day.mean(2).clip(1)
    return change


def test_scenes_are_the_same_at_every_size_and_in_every_run() -> None:
    scene, again = (sample_scene(np.random.default_rng(3)) for _ in range(2))
    picture = render(scene, 64)
    np.testing.assert_array_equal(picture, render(again, 64))
    large = render(scene, 256)
    assert large.shape == (256, 256, 3)
    reduced = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(reduced - picture).mean() < 8


def test_large_scenes_are_drawn_from_vectors() -> None:
    scene = next(
        s
        for s in map(scene_at, range(100))
        if len(s.objects) == 1 and s.placements[0].side > 0.6 and s.objects[0].vector
    )
    large = render(scene, 1024)
    plain = render(scene, 256)
    reduced = large.reshape(256, 4, 256, 4, 3).mean((1, 3))
    assert np.abs(reduced - plain).mean() < 8
    enlarged = np.asarray(Image.fromarray(plain).resize((1024, 1024), Image.Resampling.BICUBIC), float)
    assert (
        np.abs(np.diff(large.astype(float), axis=1)).max() > 1.5 * np.abs(np.diff(enlarged, axis=1)).max()
    ), "vectors are sharper"


def test_a_corpus_is_rendered_once_and_agrees_with_its_scenes(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 70)
    assert corpus.pictures.shape == (70, 64, 64, 3)
    np.testing.assert_array_equal(corpus.pictures[66], render(corpus.scenes[66], 64))
    written = next(tmp_path.rglob("pictures.npy")).stat().st_mtime_ns
    assert Corpus(tmp_path, 70).pictures.shape == (70, 64, 64, 3)
    assert next(tmp_path.rglob("pictures.npy")).stat().st_mtime_ns == written


def test_holes_leave_something_and_hide_something() -> None:
    rng = np.random.default_rng(4)
    keeps = [sample_keep(rng, 64, all_hidden=0.0) for _ in range(200)]
    assert all(set(np.unique(k)) <= {0.0, 1.0} for k in keeps)
    assert all((k == 0).any() for k in keeps)
    assert np.mean([k.any() for k in keeps]) > 0.95
    assert not sample_keep(rng, 64, all_hidden=1.0).any()


def test_edits_are_holes_over_objects_and_frames_past_the_border() -> None:
    scenes = [scene_at(i) for i in range(200)]
    given = np.stack([render(s, 64) for s in scenes])
    pictures, keep, edited = draw_edits(np.random.default_rng(5), given, scenes, all_hidden=1.0)
    known = keep[:, 0].numpy().astype(bool)
    past = [i for i in range(200) if (pictures[i] != given[i]).any()]
    over = [i for i in range(200) if known[i].any() and i not in past]
    assert min(len(past), len(over)) > 8
    for i in past:  # only the place is to be painted
        place = render(replace(scenes[i], objects=(), placements=()), 64)
        np.testing.assert_array_equal(pictures[i][~known[i]], place[~known[i]])
        np.testing.assert_array_equal(pictures[i], render(edited[i], 64))
    for i in over:  # a box that hides some object's middle
        assert any(not known[i][min(63, int(p.y * 64)), min(63, int(p.x * 64))] for p in scenes[i].placements)
    np.testing.assert_array_equal(given[0], render(scenes[0], 64))


def test_a_scene_like_another_has_its_caption_and_what_it_says() -> None:
    rng = np.random.default_rng(0)
    differ = 0
    for i in range(40):
        scene = scene_at(i)
        other = alike(rng, scene)
        assert (other.caption, other.objects, other.background) == (
            scene.caption,
            scene.objects,
            scene.background,
        )
        assert (other.relation, other.size) == (scene.relation, scene.size)
        differ += other.placements != scene.placements
    assert differ > 20


def test_other_words_name_what_is_there_in_no_order() -> None:
    rng = np.random.default_rng(3)
    wordings = load_wordings()
    scenes = [scene_at(i) for i in range(300)]
    first = 0
    for scene in scenes:
        said = in_other_words(rng, scene)
        for artwork in scene.objects:
            names = (artwork.name, *artwork.synonyms, *wordings.objects.get(artwork.name, ()))
            assert any(name in said or str(ENGLISH.plural_noun(name)) in said for name in names), said
        background = scene.background
        phrases = (*background.phrases, *background.nouns, *wordings.places[background.name])
        places = [said.find(words) for words in phrases]
        assert max(places) >= 0, said
        first += max(places) < len(said) / 3
    assert 0.2 < first / len(scenes) < 0.8


def test_words_of_no_meaning_are_in_no_caption() -> None:
    rng = np.random.default_rng(4)
    known = {word for i in range(3000) for word in scene_at(i).caption.lower().split()}
    made = {unknown_word(rng) for _ in range(500)}
    assert len(made) > 400
    assert len(made & known) < 5
