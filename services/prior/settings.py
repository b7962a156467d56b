"""The prior's settings in its Serve config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.engine.settings import EngineSettings

MAX_CANDIDATES = 64


class Settings(BaseModel):
    """The application's arguments in its Serve config.

    candidates: drawn for each picture unless a request says. call_size: evaluations of every network call (0:
    as many as there are), see ``guided``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    threads: int = Field(default=1, ge=1)
    call_size: int = Field(default=0, ge=0)
    engine: EngineSettings = EngineSettings()
    candidates: int = Field(default=2, ge=1, le=MAX_CANDIDATES)
