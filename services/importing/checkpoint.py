"""What is in downloaded folders: the parts of a pipeline, their configs and their tensors.

Nothing of a folder is trusted: names lead out of it nowhere, pickled weights are refused, and a config that
says what is not implemented is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from services.bundles.bundle import PICKLED, BundleError
from services.bundles.weights import read_tensors
from services.importing.pickles import converted

INDEX = "model_index.json"
# Of a part's weights, in the order they are looked for; half precision only where there is no other.
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
VARIANTS = ("", ".fp16")
MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Part:
    """One part of a pipeline: the class that its folder is of, and the folder.

    scratch: where its weights are converted to, if they are pickled and that is allowed.
    """

    kind: str
    folder: Path
    scratch: Path | None = None

    def config(self, name: str = "config.json") -> Config:
        """The part's config, without what only ``diffusers`` reads."""
        found = read_json(self.folder / name)
        return Config(found.path, {key: value for key, value in found.items() if not key.startswith("_")})

    def tensors(self) -> Mapping[str, Tensor]:
        """The part's tensors, each read when it is asked for. Raises BundleError."""
        places: dict[str, Path] = {}
        for file in weights_of(self.folder, self.scratch):
            places |= dict.fromkeys(_names(file), file)
        return _Lazy(places)


class Pipeline(dict[str, Part]):
    """The parts of a folder, by the names that its ``model_index.json`` has."""

    def __init__(self, folder: Path, parts: Mapping[str, Part]) -> None:
        super().__init__(parts)
        self.folder = folder

    def __missing__(self, name: str) -> Part:
        raise BundleError(f"{self.folder} has no {name}")


class Config(dict[str, Any]):
    """A JSON file. What is not in it is told by its name."""

    def __init__(self, path: Path, found: Mapping[str, Any]) -> None:
        super().__init__(found)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise BundleError(f"{self.path} has no {key}")


class _Lazy(Mapping[str, Tensor]):
    """Tensors by name, read on access. Each maps its file by itself, and leaves memory with its last use."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = places

    def __getitem__(self, key: str) -> Tensor:
        return read_tensors(self._places[key], key)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def read_pipeline(folder: Path, scratch: Path | None = None) -> Pipeline:
    """The parts of the pipeline in a folder, which may be a prior alone, as ECLIPSE's are.

    scratch: where pickled weights are converted to, if they are allowed.
    """
    if not (folder / INDEX).exists() and (folder / "config.json").exists():
        kind = str(read_json(folder / "config.json").get("_class_name", ""))
        if kind == "PriorTransformer":
            return Pipeline(folder, {"prior": Part(kind, folder, scratch)})
    found: dict[str, Part] = {}
    for name, value in read_json(folder / INDEX).items():
        if name.startswith("_") or not isinstance(value, list) or len(value) != 2 or not value[1]:
            continue
        place = _inside(folder, name)
        if place.is_dir():
            found[name] = Part(str(value[1]), place, scratch and scratch / name)
    if not found:
        raise BundleError(f"{folder} has no part of a pipeline")
    return Pipeline(folder, found)


def weights_of(folder: Path, scratch: Path | None = None) -> list[Path]:
    """The files of a part's weights: one, or the shards that an index names.

    scratch: where pickled ones are converted to; None: they are refused.
    """
    if found := _files_of(folder, ".safetensors"):
        return found
    if scratch is not None and (found := _files_of(folder, ".bin")):
        return converted(found, scratch)
    pickled = [file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLED]
    if pickled:
        raise BundleError(
            f"{folder}: {', '.join(pickled)} is pickled, which is not read; download safetensors, or say "
            "--allow-pickle if you trust where it comes from"
        )
    raise BundleError(f"{folder} has no weights: none of {', '.join(STEMS)} as .safetensors")


def _files_of(folder: Path, suffix: str) -> list[Path]:
    """The files of a part's weights that have this suffix; none if there are none."""
    for variant in VARIANTS:
        for stem in STEMS:
            index = folder / f"{stem}{suffix}.index{variant}.json"
            if index.is_file():
                places = read_json(index)["weight_map"]
                if not isinstance(places, dict):
                    raise BundleError(f"{index}: weight_map is no object")
                names = sorted(set(map(str, places.values())))
                return [_existing(_inside(folder, name)) for name in names]
            file = folder / f"{stem}{variant}{suffix}"
            if file.is_file():
                return [file]
    return []


def read_json(path: Path) -> Config:
    """A JSON object. Raises BundleError."""
    if not path.is_file():
        raise BundleError(f"{path} does not exist")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BundleError(f"{path} is too large for a config")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BundleError(f"{path} is no JSON object")
    return Config(path, found)


def _inside(folder: Path, name: str) -> Path:
    """A path below the folder. Raises BundleError for one that leads out of it."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise BundleError(f"{folder}: {name!r} leads out of the folder")
    return path


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise BundleError(f"{path} does not exist, though its index names it")
    return path


def _names(file: Path) -> list[str]:
    """The names of a file's tensors."""
    try:
        with safe_open(file, "pt", device="cpu") as opened:
            return list(opened.keys())
    except SafetensorError as error:
        raise BundleError(f"{file} is not whole: {error}") from None
