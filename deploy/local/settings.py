"""The local stack's own settings, and the errors that a person is told of."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console

from gateway.environment import refuse_unknown

console = Console(stderr=True, soft_wrap=True, highlight=False)


class StackSettings(BaseSettings):
    """Ports of the local Ray Serve, and the seconds to wait until it is healthy. metrics_port 0: Ray draws
    one.

    Each field is the environment variable of its name in capitals after ``STACK_``, for example
    STACK_GRPC_PORT.
    """

    model_config = SettingsConfigDict(env_prefix="STACK_", frozen=True)

    grpc_port: int = Field(default=9000, ge=1, le=65535)
    http_port: int = Field(default=8000, ge=1, le=65535)
    metrics_port: int = Field(default=0, ge=0, le=65535)
    timeout: float = Field(default=300.0, gt=0)


def load_stack_settings() -> StackSettings:
    """Read the environment.

    Raises UnknownSetting for a misspelt variable, ValidationError for a bad value.
    """
    refuse_unknown("STACK_", [f"STACK_{field.upper()}" for field in StackSettings.model_fields])
    return StackSettings()


class StackError(Exception):
    """The stack cannot start; the message says why and what to do."""
