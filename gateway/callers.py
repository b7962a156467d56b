"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gateway import metrics
from services.wire.errors import Forbidden, Unauthenticated

Scope = Literal["generate", "edit", "embed", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
REFUSED = "the API token is missing, wrong, expired or revoked"


@dataclass(frozen=True)
class Caller:
    """Who calls. name, tenant: empty where anybody may call."""

    name: str = ""
    tenant: str = ""
    scopes: tuple[Scope, ...] = SCOPES

    def require(self, scope: Scope) -> None:
        """Raises Forbidden for a caller that may not do this."""
        if scope not in self.scopes and "admin" not in self.scopes:
            metrics.authentication_failures.labels("scope").inc()
            raise Forbidden(f"the API token has no scope {scope}")


ANYBODY = Caller()


def refused(reason: str) -> Unauthenticated:
    """The error for a caller that is not let in, counted. It does not tell the reason."""
    metrics.authentication_failures.labels(reason).inc()
    return Unauthenticated(REFUSED)
