"""Where a stage's CLIP comes from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ClipSource(BaseModel):
    """Where CLIP comes from: the bundle, or, where a name is given, elsewhere.

    name: of a model that open_clip knows. weights: the path of its safetensors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    name: str = ""
    weights: str = ""


class ClipSettings(BaseModel):
    """The arguments of an encoder's application in its Serve config.

    threads: of torch, in each replica.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: ClipSource
    threads: int = Field(default=1, ge=1)
