"""A model bundle: a folder of configs and safetensors under a manifest that names and hashes every file."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = "manifest.json"
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
Config = TypeVar("Config", bound=BaseModel)


class BundleError(Exception):
    """The bundle cannot be used; the message says which file and why."""


class Licence(BaseModel):
    """What a licence covers, its SPDX identifier, and where the thing comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    identifier: str
    source: str


class Manifest(BaseModel):
    """The bundle's name, version, licences, and the sha256 of each file by its path in the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    licences: tuple[Licence, ...]
    files: dict[str, str]


class Bundle:
    """An opened bundle. A part is the folder of one network; its files are verified when the bundle is opened."""

    def __init__(self, path: Path | str, *parts: str) -> None:
        """Open the bundle at ``path`` (relative to the project's root) and verify the files of ``parts`` (names or patterns).

        Raises BundleError for a missing manifest or file, a hash that differs, or pickled weights.
        """
        self.path = ROOT / path
        self.manifest = self._read_manifest()
        for part in parts:
            for name in self.parts(part) or [part]:
                self._verify(name)

    def parts(self, pattern: str) -> list[str]:
        """Names of the parts that match a shell pattern, such as ``upsampler-*``."""
        return sorted(
            fnmatch.filter({name.split("/")[0] for name in self.manifest.files if "/" in name}, pattern)
        )

    def part(self, name: str) -> Path:
        """The folder of one part of the bundle."""
        return self.path / name

    def config(self, part: str, kind: type[Config]) -> Config:
        """The part's ``config.json`` as its strict model. Raises BundleError naming what does not fit."""
        self._require(f"{part}/config.json")
        try:
            return kind.model_validate_json((self.part(part) / "config.json").read_bytes())
        except ValidationError as error:
            raise BundleError(f"{part}/config.json does not describe a {kind.__name__}: {error}") from error

    def weights(self, part: str) -> Path:
        """The part's weights."""
        self._require(f"{part}/model.safetensors")
        return self.part(part) / "model.safetensors"

    def _require(self, name: str) -> None:
        if name not in self.manifest.files:
            raise BundleError(f"{name} is not in the manifest of {self.path}, so it is not read")

    def _read_manifest(self) -> Manifest:
        try:
            return Manifest.model_validate_json((self.path / MANIFEST).read_bytes())
        except FileNotFoundError:
            raise BundleError(f"no model bundle here: {self.path / MANIFEST} does not exist") from None
        except ValidationError as error:
            raise BundleError(f"{self.path / MANIFEST} is not a manifest: {error}") from error

    def _verify(self, part: str) -> None:
        expected = {
            name: digest for name, digest in self.manifest.files.items() if name.startswith(f"{part}/")
        }
        if not expected:
            raise BundleError(f"the manifest of {self.path} has no files of {part}")
        for file in self.part(part).iterdir():
            if file.suffix in PICKLED:
                raise BundleError(
                    f"{part}/{file.name} is pickled, which is not loaded; convert it with "
                    f"`python -m services.bundles.convert {file} {file.with_suffix('.safetensors')}`"
                )
        for name, digest in expected.items():
            file = self.path / name
            if not file.exists():
                raise BundleError(f"{name} is in the manifest but not in {self.path}")
            if sha256(file) != digest:
                raise BundleError(
                    f"{name} is not the file that the manifest of {self.path} names: its sha256 differs"
                )


def sha256(file: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(path: Path, name: str, version: str, licences: tuple[Licence, ...]) -> Manifest:
    """Hash every file of the bundle, but for its manifest and ``docs``, and write its manifest."""
    named = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST and (path / "docs") not in file.parents
    ]
    files = {str(file.relative_to(path)): sha256(file) for file in named}
    manifest = Manifest(name=name, version=version, licences=licences, files=files)
    (path / MANIFEST).write_text(json.dumps(manifest.model_dump(), indent=2) + "\n")
    return manifest
