"""The command line against the real stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from deploy.local.ports import free_port
from tests.stack.conftest import Addresses

FAST = ["--prior-steps", "2", "--steps", "2", "--upsampler-steps", "1", "--candidates", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


def unclip(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        cwd=folder,
        env={**os.environ, "UNCLIP_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=300,
    )


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_pictures_from_every_command(stack: Addresses, folder: Path) -> None:
    made = unclip(
        folder,
        stack.gateway,
        "generate",
        "a fox on a sandy beach",
        "-n",
        "2",
        "--seed",
        "7",
        "-o",
        "fox.png",
        "--sheet",
        "all.png",
        *FAST,
    )
    assert made.returncode == 0, made.stderr
    assert "seed 7" in made.stdout
    assert "seed 8" in made.stdout
    assert size_of(folder / "fox-1.png") == (256, 256)
    assert size_of(folder / "all.png")[0] > 512
    hole = Image.new("L", (256, 256), 0)
    hole.paste(255, (64, 64, 128, 128))
    hole.save(folder / "hole.png")
    for name, arguments in {
        "in.png": ["inpaint", "fox-1.png", "an owl", "--mask", "hole.png"],
        "out.png": ["outpaint", "fox-1.png", "a beach", "--left", "64"],
        "vary.png": ["vary", "fox-1.png", "--similarity", "0.5"],
    }.items():
        result = unclip(folder, stack.gateway, *arguments, "-o", name, *FAST)
        assert result.returncode == 0, result.stderr
        assert size_of(folder / name) == ((320, 256) if name == "out.png" else (256, 256))


def test_rank_and_model(stack: Addresses, folder: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(folder / "white.png")
    ranked = unclip(folder, stack.gateway, "rank", "white.png", "a fox", "an owl")
    assert ranked.returncode == 0, ranked.stderr
    assert len(ranked.stdout.splitlines()) == 2
    model = unclip(folder, stack.gateway, "model")
    assert "sizes: 64, 256, 1024" in model.stdout


def test_exit_codes_tell_what_to_do(stack: Addresses, folder: Path) -> None:
    bad = unclip(folder, stack.gateway, "generate", "a fox", "-n", "50")
    assert bad.returncode == 2
    assert "options.n" in bad.stderr
    nobody = unclip(folder, f"127.0.0.1:{free_port()}", "model")
    assert nobody.returncode == 3
    assert "make serve" in nobody.stderr
    late = unclip(folder, stack.gateway, "--timeout", "0.5", "generate", "a fox", "--steps", "250")
    assert late.returncode == 3
    assert unclip(folder, stack.gateway, "generate").returncode == 2


def test_help_has_examples() -> None:
    for command in ("generate", "inpaint", "outpaint", "vary", "rank"):
        result = subprocess.run(
            [sys.executable, "-m", "gateway.cli", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"unclip {command}" in result.stdout
