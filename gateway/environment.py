"""The environment variables that are read: the gateway's settings, and the command line's own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gateway.settings import PREFIX, Settings

# The command line's own variables.
CLIENT_ADDRESS = "UNCLIP_ADDRESS"
CLIENT_TOKEN = "UNCLIP_TOKEN"
CLIENT_MODEL = "UNCLIP_MODEL"
CLIENT_CA = "UNCLIP_CA"
CLIENT_VARIABLES = (CLIENT_ADDRESS, CLIENT_TOKEN, CLIENT_MODEL, CLIENT_CA)


class UnknownSetting(ValueError):
    """An environment variable with our prefix that no setting has."""


def load_settings() -> Settings:
    """Read the environment.

    Raises UnknownSetting for a misspelt variable, ValidationError for a bad value.
    """
    refuse_unknown(PREFIX, [*known_names(), *CLIENT_VARIABLES])
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
