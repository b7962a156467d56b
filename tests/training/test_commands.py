"""The command that trains: what it needs, and what it leaves of the bundle that it installs into."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

import services.training.__main__ as command
from services.bundles.bundle import Bundle, write_manifest
from services.training.loop import RunConfig
from services.training.recipes.recipe import Recipe

PARTS = ("clip", "decoder", "prior", "upsampler-256")


def write_part(bundle: Path, name: str, value: float) -> None:
    (bundle / name).mkdir(parents=True, exist_ok=True)
    (bundle / name / "config.json").write_text("{}")
    save_file({"weight": torch.tensor([value])}, bundle / name / "model.safetensors")


def weight_of(bundle: Path, name: str) -> float:
    return float(load_file(bundle / name / "model.safetensors")["weight"])


def fake_recipe(name: str, recipe: Recipe) -> Recipe:
    """The recipe, but its training writes a weight of 2, and how many steps it was given."""

    def train(folder: Path, config: RunConfig) -> None:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.steps").write_text(str(config.steps))
        if name != "judge":
            write_part(folder / "bundle", name, 2)

    return replace(recipe, train=train)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of its own with an installed bundle, whose weights are all 1; training takes no time there."""
    models = tmp_path / "models"
    for name in PARTS:
        write_part(models, name, 1)
    (models / "docs").mkdir()
    (models / "docs/card.md").write_text("What it is.")
    write_manifest(models, "installed", "1", ())
    recipes = {name: fake_recipe(name, recipe) for name, recipe in command.RECIPES.items()}
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "RECIPES", recipes)
    return models


def train(models: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command.main, [*arguments, "--out", str(models.parent / "out")])


def test_installing_one_part_leaves_the_others(models: Path) -> None:
    result = train(models, "clip", "--install", "--version", "2")
    assert result.exit_code == 0, result.output
    assert [weight_of(models, name) for name in PARTS] == [2, 1, 1, 1]
    assert (models / "docs/card.md").exists()
    bundle = Bundle(models)
    bundle.verify()
    assert bundle.manifest.version == "2"
    assert bundle.parts("*") == sorted(PARTS)


def test_installing_the_whole_bundle_removes_what_it_does_not_have(models: Path) -> None:
    write_part(models, "upsampler-512", 1)
    result = train(models, "--install")
    assert result.exit_code == 0, result.output
    assert [weight_of(models, name) for name in PARTS] == [2, 2, 2, 2]
    assert not (models / "upsampler-512").exists()
    assert (models / "docs/card.md").exists()
    Bundle(models).verify()


def test_a_part_that_is_needed_and_not_there_is_named_with_what_to_run(models: Path) -> None:
    result = train(models, "prior", "--minutes", "10")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "prior needs clip" in result.output
    assert "python -m services.training clip prior" in result.output
    assert "--start-from models" in result.output
    assert not (models.parent / "out/bundle").exists()


def test_steps_take_the_place_of_the_recipes(models: Path) -> None:
    assert train(models, "clip", "--steps", "3").exit_code == 0
    assert (models.parent / "out/clip.steps").read_text() == "3"


def test_an_interrupted_part_does_not_count(models: Path) -> None:
    started = models.parent / "out/bundle/clip"
    started.mkdir(parents=True)
    (started / "vocabulary.txt.gz").write_bytes(b"")
    assert train(models, "prior").exit_code == 1


def test_a_part_that_is_needed_may_be_trained_before(models: Path) -> None:
    assert train(models, "clip", "prior").exit_code == 0
    assert train(models, "decoder").exit_code == 0


def test_a_part_that_was_made_for_another_is_not_taken(models: Path) -> None:
    result = train(models, "clip", "decoder", "--start-from", str(models))
    assert result.exit_code == 1
    assert "decoder needs prior, which was made for another clip" in result.output
    assert "python -m services.training clip prior decoder" in result.output
    assert not (models.parent / "out/bundle").exists()


def test_a_part_that_is_needed_is_taken_from_the_bundle_that_is_started_from(models: Path) -> None:
    result = train(models, "prior", "--start-from", str(models))
    assert result.exit_code == 0, result.output
    made = models.parent / "out/bundle"
    assert (weight_of(made, "clip"), weight_of(made, "prior")) == (1, 2)
    assert not (made / "decoder").exists()


def test_the_judge_is_no_part_of_the_bundle(models: Path) -> None:
    result = train(models, "judge")
    assert result.exit_code == 0, result.output
    assert not (models.parent / "out/bundle").exists()
