"""Where a stage's CLIP comes from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ClipSource(BaseModel):
    """Where CLIP comes from: the bundle, or open_clip's model ``name`` with the safetensors at ``weights``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    name: str = ""
    weights: str = ""
