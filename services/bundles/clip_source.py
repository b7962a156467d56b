"""Where a stage's CLIP comes from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ClipSource(BaseModel):
    """Where CLIP comes from: the bundle, or, where one is given, a folder elsewhere.

    folder: a ViT in the layout of open_clip's repositories: open_clip_config.json,
    open_clip_model.safetensors and, for texts, merges.txt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    folder: str = ""


class ClipSettings(BaseModel):
    """The arguments of an encoder's application in its Serve config.

    threads: of torch, in each replica.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: ClipSource
    threads: int = Field(default=1, ge=1)
