"""Bundles: verified, strict, never pickled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import nn

from services.bundles.bundle import ROOT, Bundle, BundleError, Licence, write_manifest
from services.bundles.verify import main as verify
from services.bundles.weights import load_weights

LICENCE = (Licence(subject="weights", identifier="MIT", source="here"),)


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    part = tmp_path / "part"
    part.mkdir()
    (part / "config.json").write_text('{"width": 3}')
    save_file(nn.Linear(3, 2).state_dict(), part / "model.safetensors")
    write_manifest(tmp_path, "test", "1", LICENCE)
    return tmp_path


def test_a_whole_bundle_opens(bundle: Path) -> None:
    opened = Bundle(bundle, "part")
    assert opened.manifest.version == "1"
    assert opened.config("part", Shape).width == 3
    load_weights(nn.Linear(3, 2), opened.weights("part"))


def test_a_changed_file_is_refused(bundle: Path) -> None:
    (bundle / "part/config.json").write_text('{"width": 4}')
    with pytest.raises(BundleError, match=r"part/config\.json.*sha256"):
        Bundle(bundle, "part")


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "part/config.json").unlink()
    with pytest.raises(BundleError, match=r"part/config\.json"):
        Bundle(bundle, "part")


def test_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="manifest"):
        Bundle(tmp_path, "part")


def test_an_unknown_key_in_a_config_is_an_error(bundle: Path) -> None:
    (bundle / "part/config.json").write_text('{"width": 3, "depth": 1}')
    write_manifest(bundle, "test", "1", LICENCE)
    with pytest.raises(BundleError, match="depth"):
        Bundle(bundle, "part").config("part", Shape)


def test_pickled_weights_are_refused_with_the_command_that_converts_them(bundle: Path) -> None:
    source = bundle / "part/model.bin"
    target = bundle / "part/converted.safetensors"
    torch.save({"weight": torch.ones(2)}, source)
    with pytest.raises(BundleError, match=r"services\.bundles\.convert"):
        Bundle(bundle, "part")
    command = [sys.executable, "-m", "services.bundles.convert", str(source), str(target)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert load_file(target)["weight"].tolist() == [1, 1]


def verified(bundle: Path) -> tuple[int, str]:
    """Exit code and output of the command that verifies a bundle."""
    result = CliRunner().invoke(verify, [str(bundle)])
    return result.exit_code, result.output


@pytest.fixture
def licensed(bundle: Path) -> Path:
    """A bundle with a file at its root, and with docs, which are not in the manifest."""
    (bundle / "LICENSE.md").write_text("MIT")
    (bundle / "docs").mkdir()
    (bundle / "docs/card.md").write_text("What it is.")
    write_manifest(bundle, "test", "1", LICENCE)
    return bundle


def test_a_whole_bundle_is_verified(licensed: Path) -> None:
    assert verified(licensed) == (0, "test 1: 3 files are as the manifest says\n")


def test_a_changed_file_at_the_root_is_found(licensed: Path) -> None:
    (licensed / "LICENSE.md").write_text("none")
    code, output = verified(licensed)
    assert code == 1
    assert "LICENSE.md" in output
    assert "sha256" in output


def test_a_missing_file_at_the_root_is_found(licensed: Path) -> None:
    (licensed / "LICENSE.md").unlink()
    code, output = verified(licensed)
    assert code == 1
    assert "LICENSE.md is in the manifest but not in" in output


@pytest.mark.parametrize("name", ["spare.txt", "part/spare.txt", "spare/config.json"])
def test_a_file_that_the_manifest_does_not_name_is_found(licensed: Path, name: str) -> None:
    (licensed / name).parent.mkdir(exist_ok=True)
    (licensed / name).write_text("{}")
    code, output = verified(licensed)
    assert code == 1
    assert name in output


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"weight": torch.ones(2, 3)}, "missing bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "extra": torch.ones(1)}, "spare extra"),
        ({"weight": torch.ones(3, 3), "bias": torch.ones(2)}, r"weight is \(3, 3\)"),
    ],
)
def test_weights_load_strictly(state: dict[str, torch.Tensor], says: str) -> None:
    with pytest.raises(BundleError, match=says):
        load_weights(nn.Linear(3, 2), state)


def test_the_shipped_bundle_is_whole_and_small() -> None:
    bundle = Bundle("models", "clip", "prior", "decoder", "upsampler-*")
    assert bundle.parts("upsampler-*")
    assert sum(f.stat().st_size for f in (ROOT / "models").rglob("*") if f.is_file()) <= 64 * 2**20
    assert {licence.identifier for licence in bundle.manifest.licences} == {"MIT", "Apache-2.0"}
