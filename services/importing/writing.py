"""Parts of a bundle, written from a checkpoint's tensors."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from services.bundles import karlo, towers
from services.bundles.bundle import BundleError, Licence
from services.bundles.clip import CONFIG, VOCABULARY, WEIGHTS
from services.bundles.weights import on_no_device, require_fit
from services.clip.network import Tower
from services.diffusion.config import DiffusionConfig, SamplingConfig
from services.importing import configs
from services.importing.checkpoint import Part, Pipeline, read_json
from services.importing.tensor_file import write_tensors
from services.prior.network import Prior

ECLIPSE = Licence(
    subject="prior weights", identifier="OpenRAIL++-M", source="ECLIPSE-Community/ECLIPSE_*_Prior"
)
LOGIT_SCALE = 4.6051702  # ln 100, at which CLIP's training holds it; the towers alone do not have it


def write_network(
    folder: Path,
    config: BaseModel | None,
    network: nn.Module,
    state: dict[str, Tensor],
    dtype: torch.dtype,
) -> None:
    """Write a part: its config and its weights, which have to fit the network. network: on no device.

    The state is empty afterwards.
    """
    require_fit(network, {key: value.shape for key, value in state.items()})
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.json").write_text(config.model_dump_json(indent=2) + "\n")
    write_tensors(folder / "model.safetensors", state, dtype)


def joined(**parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a network's parts, under the parts' names."""
    return {f"{name}.{key}": value for name, own in parts.items() for key, value in own.items()}


def write_tower(folder: Path, tower: Tower, part: Part, config: dict[str, Any], dtype: torch.dtype) -> None:
    """Write one of CLIP's towers. config: open_clip's, of both."""
    names = {"text": towers.text, "image": towers.image}[tower]
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    tensors = part.tensors()
    state = names(tensors)
    if tower == "text":
        state["logit_scale"] = torch.tensor(LOGIT_SCALE)
    write_tensors(folder / WEIGHTS, state, dtype)


def diffusion_of(scheduler: Part, sampling: SamplingConfig) -> DiffusionConfig:
    """What a scheduler says. sampling: how the network is best sampled."""
    given = scheduler.config("scheduler_config.json")
    return configs.diffusion(str(scheduler.folder), scheduler.kind, given, sampling)


def require_used(pipelines: Sequence[Pipeline], used: Sequence[Pipeline], family: str) -> None:
    """Raises BundleError for a folder that is no part of the family."""
    for pipeline in pipelines:
        if set(pipeline) != {"prior"} and not any(pipeline is one for one in used):
            raise BundleError(f"{pipeline.folder} is no part of {family}")


def require_width(prior: Part, text: Part) -> None:
    """Raises BundleError for a prior that was made for other towers."""
    given = prior.config()
    tower = text.config()
    for own, theirs in (("embedding_dim", "projection_dim"), ("num_embeddings", "max_position_embeddings")):
        if given[own] != tower[theirs]:
            raise BundleError(
                f"{prior.folder} is for other towers: {own} is {given[own]}, and {theirs} of"
                f" {text.folder} is {tower[theirs]}"
            )


def write_prior(
    part: Part, scheduler: Part, sampling: SamplingConfig, folder: Path, dtype: torch.dtype
) -> None:
    """Write a ``PriorTransformer``."""
    config = configs.prior(str(part.folder), part.config(), diffusion_of(scheduler, sampling))
    tensors = part.tensors()
    write_network(folder, config, on_no_device(lambda: Prior(config)), karlo.prior(tensors), dtype)


def direct_prior(pipelines: Sequence[Pipeline]) -> Part | None:
    """An ECLIPSE prior that stands for the family's own, if one is given. Raises BundleError for more."""
    found = [pipeline["prior"] for pipeline in pipelines if set(pipeline) == {"prior"}]
    if len(found) > 1:
        raise BundleError(f"at most one ECLIPSE prior can be used; {len(found)} are given")
    return found[0] if found else None


def write_direct_prior(part: Part, folder: Path, dtype: torch.dtype) -> None:
    """Write an ECLIPSE prior, whose output is the embedding itself: its mean and deviation have no part."""
    diffusing = DiffusionConfig(prediction="sample", clip=None, sampling=SamplingConfig(steps=1))
    config = configs.prior(str(part.folder), part.config(), diffusing, timed=False)
    tensors = part.tensors()
    state = karlo.prior(tensors)
    state |= {"mean": torch.zeros(config.embedding_dim), "std": torch.ones(config.embedding_dim)}
    write_network(folder, config, on_no_device(lambda: Prior(config)), state, dtype)


def clip_config(text: Part, image: Part, processor: Part) -> dict[str, Any]:
    """open_clip's config of two towers."""
    try:
        model = towers.model_config(text.config(), image.config())
    except (KeyError, ValueError) as error:
        raise BundleError(f"{text.folder}, {image.folder}: {error}") from None
    prepare = read_json(processor.folder / "preprocessor_config.json")
    return {
        "model_cfg": model,
        "preprocess_cfg": {
            "mean": prepare["image_mean"],
            "std": prepare["image_std"],
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def write_vocabulary(tokenizer: Part, folder: Path) -> None:
    """Write CLIP's byte-pair merges as open_clip reads them."""
    merges = tokenizer.folder / "merges.txt"
    if not merges.is_file():
        raise BundleError(f"{merges} does not exist")
    lines = [line for line in merges.read_text().splitlines() if line and not line.startswith("#version")]
    with gzip.open(folder / VOCABULARY, "wb") as file:
        file.write("\n".join(["#version: 0.2", *lines, ""]).encode())
