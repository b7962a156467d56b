"""The decoder's settings in its Serve config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.engine.settings import EngineSettings


class Settings(BaseModel):
    """The application's arguments in its Serve config.

    similarity: of variations, and size: of pictures in px (0: what the model is made for), unless a request
    says.
    call_size, upsampler_call_size: evaluations of every network call (0: as many as there are), see
    ``guided``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    threads: int = Field(default=1, ge=1)
    call_size: int = Field(default=0, ge=0)
    upsampler_call_size: int = Field(default=0, ge=0)
    engine: EngineSettings = EngineSettings()
    size: int = Field(default=0, ge=0)
    similarity: float = Field(default=0.3, ge=0, le=1)
