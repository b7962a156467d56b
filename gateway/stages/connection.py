"""How gRPC connects to a stage: to which addresses, with which options."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol, TypeVar

MESSAGE_BYTES = 64 * 2**20
ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


Request_contra = TypeVar("Request_contra", contravariant=True)
Response_co = TypeVar("Response_co", covariant=True)
Metadata = tuple[tuple[str, str], ...]


class UnaryMethod(Protocol[Request_contra, Response_co]):
    """A unary method of a stub."""

    def __call__(
        self, request: Request_contra, /, *, timeout: float, metadata: Metadata
    ) -> Awaitable[Response_co]:
        """Call it."""


class StreamCall(Protocol[Response_co]):
    """A stream under way."""

    def __aiter__(self) -> AsyncIterator[Response_co]:
        """Its messages."""

    def cancel(self) -> bool:
        """Leave."""


def channel_options(keepalive_seconds: float) -> tuple[tuple[str, int | str], ...]:
    """Options of a channel. A connection that is silent for one and a half times so long is left."""
    return (
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.service_config", ROUND_ROBIN),
        ("grpc.keepalive_time_ms", int(1000 * keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", int(500 * keepalive_seconds)),
        # gRPC measures bandwidth by pings too, and none of keepalive's goes out before these are answered.
        ("grpc.http2.ping_timeout_ms", int(1000 * keepalive_seconds)),
        ("grpc.http2.max_pings_without_data", 0),
        # A channel's connections are its own: a new one connects anew.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_reconnect_backoff_ms", 2000),
    )


def target_of(address: str) -> str:
    """What gRPC connects to.

    A name, whose every address is used, or addresses (of one family) with commas between.
    """
    if "," not in address:
        return address
    family = "ipv6" if address.startswith("[") else "ipv4"
    return f"{family}:{address}"
