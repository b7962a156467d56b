"""Who may import whom (design: top level)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.bundles.bundle import ROOT

STANDARD = sys.stdlib_module_names


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        # pydantic: configs that travel inside the checkpoint.
        ("services/diffusion", {"torch", "pydantic", "services.diffusion"}),
        ("services/engine", {"pydantic", "services.engine"}),
    ],
)
def test_closed_rooms_import_only_what_they_may(room: str, allowed: set[str]) -> None:
    for file in modules(room):
        for name in imported(file):
            known = name.split(".")[0] in STANDARD or any(
                name == a or name.startswith(f"{a}.") for a in allowed
            )
            assert known, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    "network", ["services/decoder/network.py", "services/decoder/unet.py", "services/prior/network.py"]
)
def test_models_know_nothing_of_ray_or_grpc(network: str) -> None:
    assert not {name.split(".")[0] for name in imported(ROOT / network)} & {"ray", "grpc", "google", "unclip"}


def test_training_is_imported_by_no_other_room() -> None:
    for file in [*modules("services"), *modules("gateway"), *modules("deploy")]:
        if "services/training" not in str(file):
            assert not [name for name in imported(file) if name.startswith("services.training")], file


def test_the_gateway_loads_no_torch_and_no_ray() -> None:
    code = "import gateway.server, gateway.cli, sys; print(sorted({'torch', 'ray', 'open_clip'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_building_an_application_loads_no_torch() -> None:
    apps = ", ".join(
        f"services.{stage}.app" for stage in ("text_encoder", "image_encoder", "prior", "decoder")
    )
    code = f"import {apps}, sys; print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


def test_no_room_is_named_for_nothing() -> None:
    names = {
        p.stem for room in ("services", "gateway", "deploy", "tests") for p in (ROOT / room).rglob("*.py")
    }
    assert not names & {"utils", "util", "common", "helpers", "misc"}
