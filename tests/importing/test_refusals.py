"""Checkpoints that are not as they should be are refused by file and reason, and leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from services.bundles.bundle import ROOT
from services.importing.__main__ import main
from tests.importing.checkpoints import kandinsky_decoder, kandinsky_prior, seeded

UNET = "decoder/unet/diffusion_pytorch_model.safetensors"
MOVQ = "decoder/movq"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seeded()
    folder = tmp_path_factory.mktemp("originals")
    kandinsky_prior(folder / "prior")
    kandinsky_decoder(folder / "decoder")
    return folder


def edited(file: str, **changes: object) -> Callable[[Path], None]:
    """Change keys of a JSON file."""

    def spoil(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def without_a_tensor(folder: Path) -> None:
    state = load_file(folder / UNET)
    del state["conv_in.weight"]
    save_file(state, folder / UNET)


def with_a_spare_tensor(folder: Path) -> None:
    save_file({**load_file(folder / UNET), "spare": torch.zeros(1)}, folder / UNET)


def misshapen(folder: Path) -> None:
    state = load_file(folder / UNET)
    state["conv_in.weight"] = state["conv_in.weight"][:, :2].contiguous()
    save_file(state, folder / UNET)


def truncated(folder: Path) -> None:
    data = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(data[: len(data) // 2])


def garbage(folder: Path) -> None:
    (folder / UNET).write_bytes(b"\xff" * 1000)


def pickled(folder: Path) -> None:
    (folder / UNET).rename(folder / "decoder/unet/diffusion_pytorch_model.bin")


def missing(folder: Path) -> None:
    (folder / UNET).unlink()


def escaping_shard(folder: Path) -> None:
    index = {"weight_map": {"conv_in.weight": "../../../secret.safetensors"}}
    (folder / "decoder/unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def without(file: str, key: str) -> Callable[[Path], None]:
    """Take a key from a JSON file."""

    def spoil(folder: Path) -> None:
        path = folder / file
        found = json.loads(path.read_text())
        del found[key]
        path.write_text(json.dumps(found))

    return spoil


def absent(part: str) -> Callable[[Path], None]:
    """Take a part's folder away."""
    return lambda folder: shutil.rmtree(folder / part)


def odd_shards(folder: Path) -> None:
    index = folder / "decoder/unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": ["a"]}')


def escaping_part(folder: Path) -> None:
    path = folder / "decoder/model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "../prior": ["diffusers", "VQModel"]}))


def no_json(folder: Path) -> None:
    (folder / MOVQ / "config.json").write_text("[" * 10_000)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_a_tensor, "missing unet.conv_in.weight"),
        (with_a_spare_tensor, "spare unet.spare"),
        (misshapen, "unet.conv_in.weight is (32, 2, 3, 3), not (32, 4, 3, 3)"),
        (truncated, "is not whole"),
        (garbage, "is not whole"),
        (pickled, "is pickled"),
        (missing, "has no weights"),
        (escaping_shard, "leads out of the folder"),
        (escaping_part, "leads out of the folder"),
        (no_json, "is no JSON"),
        (edited("decoder/unet/config.json", act_fn="relu"), "act_fn is 'relu', which is not implemented"),
        (edited("decoder/unet/config.json", invented=3), "invented is not known"),
        (edited("prior/prior/config.json", norm_in_type="layer"), "norm_in_type is 'layer'"),
        (edited("decoder/movq/config.json", lookup_from_codebook=True), "lookup_from_codebook is True"),
        (
            edited("decoder/scheduler/scheduler_config.json", beta_schedule="sigmoid"),
            "beta_schedule is 'sigmoid'",
        ),
        (edited("prior/text_encoder/config.json", hidden_act="relu"), "hidden_act: 'relu'"),
        (absent("decoder/unet"), "has no unet"),
        (absent("decoder/scheduler"), "has no scheduler"),
        (absent("prior/image_encoder"), "has no image_encoder"),
        (without("decoder/unet/config.json", "block_out_channels"), "has no block_out_channels"),
        (without("prior/image_processor/preprocessor_config.json", "image_mean"), "has no image_mean"),
        (edited("decoder/unet/config.json", block_out_channels="wide"), "a config says what cannot be"),
        (odd_shards, "weight_map is no object"),
        (edited("prior/prior/config.json", embedding_dim=80), "is for other towers: embedding_dim is 80"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_wrong_is_named_and_nothing_is_left(
    originals: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    folder = tmp_path / "given"
    shutil.copytree(originals, folder)
    spoil(folder)
    asked = [str(folder / "prior"), str(folder / "decoder"), str(tmp_path / "bundle")]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1, result.output
    assert reason in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given"]


def as_pickle(folder: Path) -> None:
    """Only the pickled form of the U-Net is there, as in older repositories."""
    torch.save(load_file(folder / UNET), folder / "decoder/unet/diffusion_pytorch_model.bin")
    (folder / UNET).unlink()


def test_pickled_weights_are_converted_if_that_is_allowed(originals: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    shutil.copytree(originals, folder)
    as_pickle(folder)
    asked = [str(folder / "prior"), str(folder / "decoder"), str(tmp_path / "bundle"), "--allow-pickle"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "given"]
    made = load_file(tmp_path / "bundle/decoder/model.safetensors")
    given = load_file(originals / UNET)
    torch.testing.assert_close(made["unet.conv_in.weight"], given["conv_in.weight"])


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self._command,)


def test_code_in_pickled_weights_is_not_run(originals: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    shutil.copytree(originals, folder)
    (folder / UNET).unlink()
    traces = tmp_path / "traces"
    evil = {"conv_in.weight": Evil(f"touch {traces}")}
    torch.save(evil, folder / "decoder/unet/diffusion_pytorch_model.bin")
    asked = [str(folder / "prior"), str(folder / "decoder"), str(tmp_path / "bundle"), "--allow-pickle"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1
    assert "diffusion_pytorch_model.bin cannot be converted" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given"]


def test_a_process_that_reads_pickles_can_open_nothing() -> None:
    for attempt in (
        "import socket; socket.socket()",
        "open('/etc/passwd')",
        "import subprocess; subprocess.run(['true'])",
    ):
        code = f"from services.bundles.convert import confine; confine(); {attempt}"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert "Too many open files" in done.stderr


def test_a_folder_that_belongs_to_nothing_is_refused(originals: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    shutil.copytree(originals / "decoder" / "movq", folder / "vae")
    (folder / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}')
    asked = [str(originals / "prior"), str(originals / "decoder"), str(folder), str(tmp_path / "bundle")]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1
    assert "given is no part of Kandinsky 2.2" in result.output


@pytest.mark.parametrize("name", ["Foo Bar/..", "dall-e-2", "-x"])
def test_a_name_that_requests_could_not_use_is_refused_first(
    originals: Path, tmp_path: Path, name: str
) -> None:
    asked = [str(originals / "prior"), str(originals / "decoder"), str(tmp_path / "bundle")]
    result = CliRunner().invoke(main, [*asked, f"--name={name}"])
    assert result.exit_code == 2
    assert "is no name for a model" in result.output
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told(originals: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    asked = [str(originals / "prior"), str(originals / "decoder"), str(tmp_path / "file" / "bundle")]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)


def test_a_missing_repository_is_named(originals: Path, tmp_path: Path) -> None:
    asked = [str(originals / "decoder"), str(tmp_path / "bundle")]
    assert "a prior (kandinsky-2-2-prior) is needed" in CliRunner().invoke(main, asked).output
    asked = [str(originals / "prior"), str(tmp_path / "bundle")]
    assert "no family that is known" in CliRunner().invoke(main, asked).output
