"""The text tower is taught with texts whose parts are known: what is said goes with what captions have."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from services.bundles.bundle import ROOT
from services.clip.tokenizer import WORDS
from services.training.data.artwork import load_vocabulary
from services.training.data.rewording import Piece, Reworded, Wordings, load_wordings, reworded
from services.training.data.scenes import sample_scene
from services.training.lexicon import known_words
from services.training.loop import RunConfig
from services.training.recipes.wording import aligned, train
from services.training.wordings import taught

WEIGHTS = "clip/open_clip_model.safetensors"


def letters(text: str) -> list[int]:
    """A token for each letter."""
    return [ord(letter) for letter in text if letter != " "]


def test_what_is_meant_is_said_in_captions_own_words() -> None:
    rng = np.random.default_rng(0)
    known = known_words()
    for _ in range(200):
        text = reworded(rng, sample_scene(rng), load_wordings())
        meant = " ".join(piece.meant or "" for piece in text.meant).lower()
        assert known.issuperset(WORDS.findall(meant)), meant
        assert [p for p in text.meant if not any(p is said for said in text.said)] == []


def test_no_wording_belongs_to_two_things() -> None:
    wordings = load_wordings()
    for things in (wordings.objects, wordings.places):
        every = [words for own in things.values() for words in own]
        assert len(every) == len(set(every))


def test_tokens_are_read_as_those_of_the_same_piece() -> None:
    fox, snow = Piece("vixen", "fox"), Piece("ice", "snow")
    row = aligned(Reworded([snow, Piece("&"), fox], [fox, snow]), letters, 16, (1, 2))
    assert row is not None
    said, meant, read_as, weight = (part.tolist() for part in row)
    assert said[:11] == [1, *letters("ice&vixen"), 2]
    assert meant[:9] == [1, *letters("foxsnow"), 2]
    #                        i  c  e  &  v  i  x  e  n  end
    assert read_as[:11] == [0, 4, 6, 7, 0, 1, 1, 2, 3, 3, 8]
    assert weight[:11] == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
    assert not any(weight[11:])


def test_what_is_read_already_is_read_as_itself() -> None:
    piece = Piece("a fox in the snow", "a fox in the snow")
    row = aligned(Reworded([piece], [piece]), letters, 32, (1, 2))
    assert row is not None
    count = len(letters(piece.said)) + 2
    assert row[2].tolist()[:count] == list(range(count))


def test_what_does_not_fit_is_no_lesson() -> None:
    piece = Piece("a fox in the snow")
    assert aligned(Reworded([piece], []), letters, 15, (1, 2)) is not None
    assert aligned(Reworded([piece], []), letters, 14, (1, 2)) is None


def test_what_was_taught_is_taught_by_the_tower_that_it_was_before(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / "models/clip", bundle / "clip")
    config = RunConfig(steps=1, learning_rate=1e-3, batch=4)
    train(tmp_path, config)
    taught = (bundle / WEIGHTS).read_bytes()
    train(tmp_path, config)  # it has ended: nothing is left to do
    assert (bundle / WEIGHTS).read_bytes() == taught
    assert (tmp_path / "untaught" / WEIGHTS).read_bytes() == (ROOT / "models" / WEIGHTS).read_bytes()

    other = load_file(ROOT / "models" / WEIGHTS)
    other["logit_scale"] += 1  # another CLIP comes in its place
    save_file(other, bundle / WEIGHTS)
    train(tmp_path, config)
    assert load_file(bundle / WEIGHTS)["logit_scale"] == other["logit_scale"]
    assert load_file(tmp_path / "untaught" / WEIGHTS)["logit_scale"] == other["logit_scale"]


def test_an_object_whose_name_is_in_another_ones_name_is_itself() -> None:
    artwork = {each.name: each for each in load_vocabulary()}
    rng = np.random.default_rng(5)
    nothing = Wordings({}, load_wordings().places, ("this",))
    for _ in range(50):
        scene = sample_scene(rng, arrangement="pair")
        scene = replace(scene, objects=(artwork["hot dog"], artwork["dog"]))
        text = reworded(rng, scene, nothing)
        assert {"hot dog", "dog"} <= {piece.meant for piece in text.meant}
        assert all(piece.meant != "in front of dog" for piece in text.meant)


def test_what_is_taught_is_decent_and_comes_to_the_tower() -> None:
    rows = [
        (("object", "snake"), "snake charmer"),
        (("object", "horse"), "horse porn"),
        (("object", "pencil"), "draw"),
        (("object", "woman"), "lady"),
        (("object", "dog"), "hounds"),
        (("object", "telephone"), "desk"),
        (("place", "forest"), "wilderness"),
        (("place", "forest"), "bamboo wilderness"),
        (("nothing", ""), "major"),
        (("nothing", ""), "about"),
    ]
    read_as = {"desk": "", "wilderness": "desert", "major": "big"}
    known = {"desert", "big", "snake", "horse"}
    assert [text for _, text in taught(rows, read_as, known)] == [
        "snake charmer",
        "bamboo wilderness",
        "about",
    ]


def test_the_tower_learns_and_pictures_are_seen_as_before(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models/clip", tmp_path / "bundle/clip")
    before = load_file(tmp_path / "bundle" / WEIGHTS)
    train(tmp_path, RunConfig(steps=2, learning_rate=1e-3, batch=8, muon=True))
    after = load_file(tmp_path / "bundle" / WEIGHTS)
    changed = {name for name, value in before.items() if not value.equal(after[name])}
    assert "token_embedding.weight" in changed
    assert not any(name.startswith("visual.") or name == "logit_scale" for name in changed)
