"""The decoder's settings in its Serve config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from services.engine.settings import EngineSettings


class Settings(BaseModel):
    """The application's arguments in its Serve config.

    lanes: calls that are computed side by side on a CPU, at most as many as threads, see ``Lanes``.
    similarity: of variations, and size: of pictures in px (0: what the model is made for), unless a request
    says.
    call_sizes, upsampler_call_sizes: evaluations of a network call, the first of which counts (none: as many
    as a lane or all lanes take), see ``Calls``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    threads: int = Field(default=1, ge=1)
    lanes: int = Field(default=2, ge=1)
    call_sizes: tuple[PositiveInt, ...] = ()
    upsampler_call_sizes: tuple[PositiveInt, ...] = ()
    engine: EngineSettings = EngineSettings()
    size: int = Field(default=0, ge=0)
    similarity: float = Field(default=0.3, ge=0, le=1)
