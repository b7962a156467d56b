"""The gateway's settings, from the environment: addresses of the stages, where to listen, and limits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.telemetry.logs import LogFormat

PREFIX = "UNCLIP_"
StageName = Literal["text_encoder", "image_encoder", "prior", "decoder"]
CLIENT_ADDRESS = "UNCLIP_ADDRESS"  # the command line's own variable


class UnknownSetting(ValueError):
    """An environment variable with our prefix that no setting has."""


class Settings(BaseSettings):
    """Each field is the environment variable of its name in capitals after ``UNCLIP_``, for example UNCLIP_PORT."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=50051, ge=0, le=65535)
    # Where Prometheus finds /metrics; 0: nowhere.
    metrics_port: int = Field(default=0, ge=0, le=65535)
    # How log lines are written; prompts are in them only if asked for.
    log_format: LogFormat = "text"
    log_prompts: bool = False
    text_encoder_address: str = "127.0.0.1:9000"
    image_encoder_address: str = "127.0.0.1:9000"
    prior_address: str = "127.0.0.1:9000"
    decoder_address: str = "127.0.0.1:9000"
    # Stages that may have no replica while nobody needs them, by name with commas between: health checks do not wake them.
    sleeping_stages: Annotated[tuple[StageName, ...], NoDecode] = ()
    # The most seconds a request may take, whatever its caller's deadline.
    request_timeout: float = Field(default=600.0, gt=0)
    # Seconds between looks at whether all stages answer.
    health_interval: float = Field(default=2.0, gt=0)

    # Prompts whose encoding is kept, and for how many seconds.
    text_cache_size: int = Field(default=1024, ge=0)
    text_cache_seconds: float = Field(default=600.0, gt=0)
    # Seconds that running requests are given when the gateway stops.
    stop_grace: float = Field(default=30.0, ge=0)
    # Calls at a time; more are refused with RESOURCE_EXHAUSTED.
    max_requests: int = Field(default=256, ge=1)

    max_n: int = Field(default=10, ge=1)
    max_prompt_characters: int = Field(default=1000, ge=1)
    max_steps: int = Field(default=250, ge=1)
    max_guidance: float = Field(default=20.0, ge=1)
    max_prior_candidates: int = Field(default=16, ge=1)
    max_captions: int = Field(default=100, ge=2)
    max_picture_bytes: int = Field(default=16 * 2**20, ge=1)
    max_picture_pixels: int = Field(default=4 * 2**20, ge=1)
    # A canvas is painted in square frames: a longer one would take any number of them.
    max_aspect_ratio: float = Field(default=8.0, ge=1)

    @field_validator("sleeping_stages", mode="before")
    @classmethod
    def _separate(cls, value: object) -> object:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


def load_settings() -> Settings:
    """Read the environment. Raises UnknownSetting for a misspelt variable, ValidationError for a bad value."""
    refuse_unknown(PREFIX, [*known_names(), CLIENT_ADDRESS])
    return Settings()


def refuse_unknown(prefix: str, known: Sequence[str]) -> None:
    """Raises UnknownSetting if the environment has a variable with the prefix that is not known."""
    unknown = [name for name in os.environ if name.startswith(prefix) and name not in known]
    if unknown:
        raise UnknownSetting(
            f"{', '.join(sorted(unknown))}: no such setting; known are {', '.join(sorted(known))}"
        )


def known_names() -> list[str]:
    """Every environment variable that is read."""
    return [PREFIX + field.upper() for field in Settings.model_fields]
