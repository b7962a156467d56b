"""The connection: options, TLS and tokens."""

from __future__ import annotations

import grpc

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
Metadata = tuple[tuple[str, str], ...]


def metadata_of(token: str | None) -> Metadata:
    """What goes with every call."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def credentials_of(
    tls: bool | bytes | grpc.ChannelCredentials,
) -> grpc.ChannelCredentials | None:
    """TLS with the system's roots, a PEM file's, or ready credentials; None: no TLS."""
    if isinstance(tls, bytes):
        return grpc.ssl_channel_credentials(root_certificates=tls)
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials() if tls else None
    return tls


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    name = address.rpartition(":")[0].strip("[]")
    return name in ("localhost", "::1") or name.startswith("127.")
