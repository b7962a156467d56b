"""What one tenant may ask for, as the setting has it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Quota(BaseModel):
    """Of one tenant, a minute; what is not said is unbounded. in_flight: requests at a time, at a gateway."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int | None = Field(default=None, ge=1)
    megapixel_steps: int | None = Field(default=None, ge=1)
    in_flight: int | None = Field(default=None, ge=1)
