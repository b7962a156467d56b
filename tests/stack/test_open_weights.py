"""An imported Kandinsky beside the shipped model, in one stack, drawn from with every command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.stack.conftest import Addresses
from tests.stack.test_cli import size_of, unclip

KANDINSKY = ["--model", "kandinsky-2.2", "--prior-steps", "2", "--steps", "2", "--candidates", "1"]
SMALL = [*KANDINSKY, "--size", "256"]


@pytest.fixture(scope="module")
def drawn(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture that it drew."""
    folder = tmp_path_factory.mktemp("kandinsky")
    made = unclip(folder, stack.gateway, "generate", "a red fox", "--seed", "3", "-o", "fox.png", *SMALL)
    assert made.returncode == 0, made.stderr
    assert size_of(folder / "fox.png") == (256, 256)
    return folder


def test_both_models_are_listed_and_shown(stack: Addresses, drawn: Path) -> None:
    listed = unclip(drawn, stack.gateway, "model", "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["unclip-emoji", "kandinsky-2.2"]
    shown = unclip(drawn, stack.gateway, "model", "show", "kandinsky-2.2")
    assert shown.stdout.startswith("kandinsky-2.2 1\n")
    assert "by default 512" in shown.stdout
    assert "Apache-2.0" in shown.stdout


def test_a_hole_is_painted_and_what_is_known_stays(stack: Addresses, drawn: Path) -> None:
    given = np.asarray(Image.open(drawn / "fox.png").convert("RGB"))
    hole = np.zeros((256, 256), np.uint8)
    hole[96:176, 96:176] = 255
    Image.fromarray(hole).save(drawn / "hole.png")
    command = ["inpaint", "fox.png", "an owl", "--mask", "hole.png", "-o", "owl.png"]
    made = unclip(drawn, stack.gateway, *command, *KANDINSKY)
    assert made.returncode == 0, made.stderr
    found = np.asarray(Image.open(drawn / "owl.png").convert("RGB"))
    np.testing.assert_array_equal(found[hole == 0], given[hole == 0])
    assert (found != given).any()


def test_a_picture_is_extended(stack: Addresses, drawn: Path) -> None:
    command = ["outpaint", "fox.png", "a red fox", "--left", "64", "-o", "wide.png"]
    made = unclip(drawn, stack.gateway, *command, *KANDINSKY)
    assert made.returncode == 0, made.stderr
    assert size_of(drawn / "wide.png") == (320, 256)


@pytest.mark.parametrize(
    "command",
    [
        ["vary", "fox.png", "--similarity", "0.5"],
        ["mix", "fox.png", "in the snow"],
        ["interpolate", "fox.png", "in the snow", "--frames", "2"],
    ],
)
def test_pictures_are_varied_mixed_and_walked_between(
    stack: Addresses, drawn: Path, command: list[str]
) -> None:
    made = unclip(drawn, stack.gateway, *command, "-o", f"{command[0]}.png", *SMALL)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("256x256") == (2 if command[0] == "interpolate" else 1)


def test_captions_are_ranked_by_its_own_towers(stack: Addresses, drawn: Path) -> None:
    captions = ["a fox", "an owl", "two ships at sea", "a castle at night", "a lemon", "snow"]
    command = ["rank", "fox.png", *captions, "--model"]
    ranked = [unclip(drawn, stack.gateway, *command, name) for name in ("kandinsky-2.2", "unclip-emoji")]
    assert [answer.returncode for answer in ranked] == [0, 0]
    assert ranked[0].stdout != ranked[1].stdout
