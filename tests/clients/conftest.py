"""The gateway's fixtures serve clients too."""

from tests.gateway.conftest import front

__all__ = ["front"]
