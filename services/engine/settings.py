"""The engine's part of a stage's settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.engine.capacity import EngineLimits


class EngineSettings(BaseModel):
    """How much one replica takes on, and when its steps are too slow to be true.

    max_batch: the most rows of a step. max_running: rows that have begun, and so hold memory. max_waiting:
    rows that wait beyond them. hang_seconds: a step that takes longer, and many times longer than usual,
    makes the replica unhealthy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch: int = Field(default=8, ge=1)
    max_running: int = Field(default=32, ge=1)
    max_waiting: int = Field(default=64, ge=0)
    hang_seconds: float = Field(default=30.0, gt=0)

    @property
    def limits(self) -> EngineLimits:
        """The limits that the scheduler works with."""
        return EngineLimits(self.max_running, self.max_waiting)
