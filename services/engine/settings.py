"""The engine's part of a stage's settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.engine.engine import EngineLimits


class EngineSettings(BaseModel):
    """How a replica batches: rows of one step, rows with a place, rows that may wait."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch: int = Field(default=8, ge=1)
    max_running: int = Field(default=32, ge=1)
    max_waiting: int = Field(default=64, ge=0)

    @property
    def limits(self) -> EngineLimits:
        """The limits the engine works with."""
        return EngineLimits(self.max_batch, self.max_running, self.max_waiting)
