"""The prior's settings in its Serve config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from services.engine.settings import EngineSettings

MAX_CANDIDATES = 64


class Settings(BaseModel):
    """The application's arguments in its Serve config.

    lanes: calls that are computed side by side on a CPU, at most as many as threads, see ``Lanes``.
    candidates: drawn for each picture unless a request says. call_sizes: evaluations of a network call, the
    first of which counts (none: as many as a lane or all lanes take), see ``Calls``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    threads: int = Field(default=1, ge=1)
    lanes: int = Field(default=2, ge=1)
    call_sizes: tuple[PositiveInt, ...] = ()
    engine: EngineSettings = EngineSettings()
    candidates: int = Field(default=2, ge=1, le=MAX_CANDIDATES)
