"""Addresses: where to listen, how that is reached, and which are this machine's own."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def require_safe(setting: str, source: str) -> None:
    """Raises ValueError for a URL that is not to be trusted: neither https, nor this machine's own."""
    found = urlsplit(source)
    plain = found.scheme == "http" and is_loopback(found.hostname or "")
    if found.scheme not in ("", "https") and not plain:
        raise ValueError(f"{setting}: must be a file, or a URL that begins with https://")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own, which others cannot reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable_address(host: str, port: int) -> str:
    """Where a gateway that listens there is reached from its own machine."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return listening_address(loopback.get(host, host), port)


def listening_address(host: str, port: int) -> str:
    """Where to listen, as gRPC has it; an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
