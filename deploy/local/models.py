"""The models of the local stack: each a bundle, under the name that its manifest tells."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.settings import StackError
from services.bundles.bundle import ROOT, Bundle, BundleError
from services.wire.models import is_model_name
from services.wire.stages import STAGES, StageName

SHIPPED = "models"  # the bundle in the repository, which deploy/serve is written for
ENCODERS: dict[StageName, tuple[str, ...]] = {
    "text_encoder": ("clip", "text-tower"),
    "image_encoder": ("clip", "image-tower"),
}


@dataclass(frozen=True)
class LocalModel:
    """A model of the local stack.

    bundle: its folder. applications: the application of each stage. shared: stages whose application is that
    of a model before it, which has the same encoder.
    """

    name: str
    bundle: str
    applications: dict[StageName, str]
    shared: frozenset[StageName]


def local_models(bundles: Sequence[str]) -> list[LocalModel]:
    """The models of these folders, the default first. Raises StackError."""
    found: list[LocalModel] = []
    encoders: dict[tuple[StageName, frozenset[tuple[str, str]]], str] = {}
    for folder in bundles:
        try:
            given = Path(folder).expanduser()
            bundle = Bundle(given.resolve() if given.is_dir() else ROOT / folder)
        except BundleError as error:
            raise StackError(str(error)) from None
        name = bundle.manifest.name
        if not is_model_name(name) or name in [model.name for model in found]:
            raise StackError(f"{folder}: its name {name!r} is no name for a model, or another one's")
        applications = {stage: f"{name}-{stage}" if found else stage for stage in STAGES}
        own = dict(applications)
        for stage in ENCODERS:
            applications[stage] = encoders.setdefault((stage, _files(bundle, stage)), own[stage])
        shared = frozenset(stage for stage in ENCODERS if applications[stage] != own[stage])
        found.append(LocalModel(name, str(bundle.path), applications, shared))
    return found


def applications(config: dict[str, Any], model: LocalModel, stage: StageName) -> list[dict[str, Any]]:
    """The applications of a stage's Serve config, for this model."""
    made = copy.deepcopy(config["applications"])
    for application in made:
        application["name"] = model.applications[stage]
        application["route_prefix"] = f"/{model.applications[stage]}"
        args = application["args"]
        args.get("clip", args)["bundle"] = model.bundle
        if "size" in args and Path(model.bundle) != ROOT / SHIPPED:
            args["size"] = 0  # what that model is made for
    return list(made)


def gateway_table(models: Sequence[LocalModel], address: str) -> dict[str, dict[StageName, str]]:
    """As the gateway's setting has it."""
    return {
        model.name: {stage: f"{model.applications[stage]}@{address}" for stage in STAGES} for model in models
    }


def _files(bundle: Bundle, stage: StageName) -> frozenset[tuple[str, str]]:
    """The files that an encoder reads, with their digests."""
    parts = ENCODERS[stage]
    digests = ((name.partition("/"), digest) for name, digest in bundle.manifest.files.items())
    return frozenset((file, digest) for (part, _, file), digest in digests if part in parts)
