"""The prior's settings in its Serve config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.engine.settings import EngineSettings

MAX_CANDIDATES = 64


class Settings(BaseModel):
    """The application's arguments in its Serve config. candidates: drawn for each picture unless a request says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    threads: int = Field(default=1, ge=1)
    engine: EngineSettings = EngineSettings()
    candidates: int = Field(default=2, ge=1, le=MAX_CANDIDATES)
