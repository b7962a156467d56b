"""The images' recipe: linted, and what it copies and installs is enough for the gateway to start."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from services.bundles.bundle import ROOT

DOCKERFILE = ROOT / "deploy/Dockerfile"
BIN = Path(sys.executable).parent


def target(name: str) -> str:
    """The instructions of one build target."""
    parts = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)
    return next(part for part in parts if re.match(rf"\S+ AS {name}\n", part))


def test_the_recipe_is_linted() -> None:
    result = subprocess.run([BIN / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_images_run_without_rights_and_without_tools() -> None:
    for name in ("gateway", "stage-cpu"):
        assert "USER 10001:10001" in target(name)
        assert "HEALTHCHECK" in target(name)
        assert "RUN" not in target(name), "nothing is built in what ships"
        assert "/opt/tools" not in target(name)
    assert target("stage-gpu").startswith("stage-cpu AS")


def test_what_the_gateway_copies_and_installs_is_enough(tmp_path: Path) -> None:
    copies = [
        line.split() for line in re.findall(r"^COPY (?!--from)(.+)$", target("gateway"), flags=re.MULTILINE)
    ]
    for source, destination in ((source, words[-1]) for words in copies for source in words[:-1]):
        copy = (
            tmp_path / destination / Path(source).name
            if destination.endswith("/")
            else tmp_path / destination
        )
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, copy)
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "venv")}
    lock = str(ROOT / "requirements-gateway.lock")
    for command in (
        ["venv", "--quiet", str(tmp_path / "venv"), "--python", sys.executable],
        ["pip", "install", "--quiet", "--require-hashes", "-r", lock],
    ):
        subprocess.run([BIN / "uv", *command], env=environment, check=True, capture_output=True, timeout=300)
    paths = {"PYTHONPATH": f"{tmp_path}:{tmp_path / 'protos'}"}
    listed = contents_of(tmp_path / "venv/bin/python", tmp_path / "sbom.cdx.json")
    assert listed <= pinned("requirements-gateway.lock")
    assert {"grpcio", "pillow"} <= {name for name, _ in listed}
    code = "import gateway.server, gateway.probe, gateway.cli"
    result = subprocess.run(
        [tmp_path / "venv/bin/python", "-c", code],
        env=paths,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def contents_of(python: Path, file: Path) -> set[tuple[str, str]]:
    """Names and versions of the list that the images' build writes of an environment."""
    (command,) = re.findall(r'^ENV LIST="/opt/lists/bin/(.+)"$', target("lists"), flags=re.MULTILINE)
    assert re.search(r"^RUN \$LIST -o \S+ /opt/venv/bin/python$", target("gateway-list"), flags=re.MULTILINE)
    program, *arguments = command.split()
    subprocess.run([BIN / program, *arguments, "-o", file, python], check=True, capture_output=True)
    text = file.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    assert all(component["purl"].startswith("pkg:pypi/") for component in components)
    return {(component["name"].lower().replace("_", "-"), component["version"]) for component in components}


def pinned(lock: str) -> set[tuple[str, str]]:
    """Names and versions of a lock."""
    text = (ROOT / lock).read_text().lower()
    return set(re.findall(r"^([a-z0-9._-]+)(?:\[\S+\])?==([^\s;]+)", text, flags=re.MULTILINE))


def test_every_image_lists_what_it_holds() -> None:
    for name, part in (("gateway", "gateway"), ("stage-cpu", "stage")):
        assert f"COPY --from={part}-list /sbom.cdx.json" in target(name)
        assert f"COPY --from={part}-environment /opt/venv" in target(f"{part}-list")
        assert f"COPY --from={part}-environment /opt/venv" in target(name)


def test_nothing_else_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        path
        for _, path in re.findall(r"^COPY (--from=\S+ )?(\S+)", DOCKERFILE.read_text(), flags=re.MULTILINE)
    }
    assert ignored[1] == "*"
    for path in copied:
        if not path.startswith("/"):
            assert any(
                line.startswith("!") and (path.startswith(line[1:].split("*")[0])) for line in ignored
            ), path
