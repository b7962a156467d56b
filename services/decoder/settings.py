"""The decoder's settings in its Serve config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.engine.settings import EngineSettings


class Settings(BaseModel):
    """The application's arguments in its Serve config. similarity: of variations, unless a request says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    threads: int = Field(default=1, ge=1)
    engine: EngineSettings = EngineSettings()
    similarity: float = Field(default=0.3, ge=0, le=1)
