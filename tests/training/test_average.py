"""Averaging weights: the mean is exact, the new bundle opens, and networks that differ have none."""

from __future__ import annotations

from pathlib import Path

import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from services.bundles.bundle import Bundle, write_manifest
from services.training.average import main


def bundle_of(path: Path, weight: torch.Tensor) -> Path:
    """A bundle whose decoder has one tensor, in bfloat16."""
    (path / "decoder").mkdir(parents=True)
    (path / "decoder/config.json").write_text("{}")
    save_file({"weight": weight.to(torch.bfloat16)}, path / "decoder/model.safetensors")
    write_manifest(path, "averaged", "1", ())
    return path


def averaged(out: Path, *bundles: Path) -> tuple[int, str]:
    """Exit code and output of the command."""
    result = CliRunner().invoke(main, [str(out), *map(str, bundles), "--version", "2"])
    return result.exit_code, result.output


def test_the_new_bundle_has_the_mean_and_opens(tmp_path: Path) -> None:
    """Three bundles, whose mean bfloat16 can tell."""
    values = (torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.5]), torch.tensor([6.0, 1.0]))
    bundles = [bundle_of(tmp_path / str(number), value) for number, value in enumerate(values)]
    assert averaged(tmp_path / "out", *bundles) == (0, "")
    written = Bundle(tmp_path / "out", "decoder")
    weight = load_file(written.weights("decoder"))["weight"]
    assert written.manifest.version == "2"
    assert weight.dtype == torch.bfloat16
    assert weight.tolist() == [3.0, 0.5]


def test_networks_that_differ_have_no_mean(tmp_path: Path) -> None:
    """Of another shape: an error that names the file, and nothing is written."""
    bundles = bundle_of(tmp_path / "a", torch.zeros(2)), bundle_of(tmp_path / "b", torch.zeros(3))
    code, output = averaged(tmp_path / "out", *bundles)
    assert code == 1
    assert "a/decoder/model.safetensors is another network" in output
    assert not (tmp_path / "out").exists()
