"""Keep the local stack on loopback.

Ray Serve's gRPC proxy has no setting for its host and listens on all addresses.
"""

from __future__ import annotations

from typing import Any

HOST = "127.0.0.1"
# Ray takes 127.0.0.1 for "find this machine's address"; any other loopback address is used as it is.
NODE_ADDRESS = "127.0.0.2"


def bind_serve_to_loopback() -> None:
    """A Ray worker set-up hook: from here on, Serve's gRPC proxies listen on loopback only."""
    from ray.serve._private import default_impl

    listen = default_impl.add_grpc_address

    def on_loopback(server: Any, address: str) -> None:
        listen(server, address.replace("[::]", HOST))

    default_impl.add_grpc_address = on_loopback
