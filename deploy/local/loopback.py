"""Keep the local stack on loopback.

Ray Serve's gRPC proxy has no setting for its host and listens on all addresses.
"""

from __future__ import annotations

from typing import Any

HOST = "127.0.0.1"
# Ray takes 127.0.0.1 for "find this machine's address"; any other loopback address is used as it is.
NODE_ADDRESS = "127.0.0.2"


def bind_serve_to_loopback() -> list[Any]:
    """From here on, Serve's gRPC proxy listens on loopback only.

    Serve's proxy calls it when it starts, by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, and takes what it
    returns for middlewares of HTTP: there are none. A set-up hook of Ray's would cost every worker 2 s.
    """
    from ray.serve._private import default_impl

    listen = default_impl.add_grpc_address

    def on_loopback(server: Any, address: str) -> None:
        listen(server, address.replace("[::]", HOST))

    default_impl.add_grpc_address = on_loopback
    return []
