"""What models may be called: in requests, in the gateway's table, in metrics and in bundles' manifests."""

from __future__ import annotations

import re

PATTERN = "[a-z0-9][a-z0-9._-]{0,63}"
ALIAS = "dall-e-2"  # what callers of the service that is no more ask for: the first model


def is_model_name(name: str) -> bool:
    """Whether a model may be called so."""
    return re.fullmatch(PATTERN, name, re.ASCII) is not None and name != ALIAS
