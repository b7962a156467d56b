"""``python -m gateway.probe``.

Exit code 0 if the gateway on this machine is up (or, with ``--ready``, can serve).
"""

from __future__ import annotations

import sys
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.server import LIVE
from gateway.settings import load_settings, reachable_address


@click.command()
@click.option("--ready", is_flag=True, help="Ask whether it can serve, not only whether the process answers.")
def main(ready: bool) -> None:
    """Ask the gateway's health service, at UNCLIP_HOST and UNCLIP_PORT."""
    settings = load_settings()
    with grpc.insecure_channel(reachable_address(settings.host, settings.port)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service="" if ready else LIVE), timeout=4)
        except grpc.RpcError:
            sys.exit("the gateway does not answer")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit("the gateway is not serving")


if __name__ == "__main__":
    main()
