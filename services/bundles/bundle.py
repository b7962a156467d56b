"""A model bundle: a folder of configs and safetensors under a manifest that names and hashes every file."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = "manifest.json"
DOCS = "docs"  # the folder of a bundle whose files are not loaded, and so not in its manifest
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
    """An opened bundle. A part is the folder of one network."""

    def __init__(self, path: Path | str, *parts: str) -> None:
        """Open the bundle at ``path`` and verify the files of ``parts``.

        path: relative paths start at the project's root. parts: names, or shell patterns, which may match
        none.
        Raises BundleError for a missing manifest or file, a hash that differs, or pickled weights.
        """
        self.path = ROOT / path
        self.manifest = self._read_manifest()
        for part in parts:
            for name in self.parts(part) if "*" in part else [part]:
                self._verify_part(name)

    def parts(self, pattern: str) -> list[str]:
        """Names of the parts that match a shell pattern, such as ``upsampler-*``."""
        folders = {name.split("/")[0] for name in self.manifest.files if "/" in name}
        return sorted(fnmatch.filter(folders, pattern))

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

    def verify(self) -> None:
        """Verify every file of the bundle, in parts and beside them, ``docs`` excepted.

        Raises BundleError for pickled weights, a hash that differs, a file of the manifest that is missing,
        or files that the manifest does not name.
        """
        for part in self.parts("*"):
            self._refuse_pickled(part)
        self._verify_files(self.manifest.files)
        spare = sorted(set(files_of(self.path)) - set(self.manifest.files))
        if spare:
            raise BundleError(f"not in the manifest of {self.path}: {', '.join(spare)}")

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

    def _verify_part(self, part: str) -> None:
        names = [name for name in self.manifest.files if name.startswith(f"{part}/")]
        if not names:
            raise BundleError(f"the manifest of {self.path} has no files of {part}")
        self._refuse_pickled(part)
        self._verify_files(names)

    def _refuse_pickled(self, part: str) -> None:
        if not self.part(part).is_dir():
            return  # its files are then told to be missing
        for file in self.part(part).iterdir():
            if file.suffix in PICKLED:
                raise BundleError(
                    f"{part}/{file.name} is pickled, which is not loaded; convert it with "
                    f"`python -m services.bundles.convert {file} {file.with_suffix('.safetensors')}`"
                )

    def _verify_files(self, names: Iterable[str]) -> None:
        for name in names:
            file = self.path / name
            if not file.exists():
                raise BundleError(f"{name} is in the manifest but not in {self.path}")
            if sha256(file) != self.manifest.files[name]:
                raise BundleError(
                    f"{name} is not the file that the manifest of {self.path} names: its sha256 differs"
                )


def sha256(file: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_of(bundle: Path) -> dict[str, Path]:
    """Every file that a bundle's manifest has to name, by its path in the bundle, sorted.

    That is all but the manifest and ``docs``.
    """
    files = {str(file.relative_to(bundle)): file for file in sorted(bundle.rglob("*")) if file.is_file()}
    return {
        name: file for name, file in files.items() if name != MANIFEST and not name.startswith(f"{DOCS}/")
    }


def write_manifest(path: Path, name: str, version: str, licences: tuple[Licence, ...]) -> Manifest:
    """Hash every file of the bundle, but for its manifest and ``docs``, and write its manifest."""
    files = {relative: sha256(file) for relative, file in files_of(path).items()}
    manifest = Manifest(name=name, version=version, licences=licences, files=files)
    (path / MANIFEST).write_text(json.dumps(manifest.model_dump(), indent=2) + "\n")
    return manifest
