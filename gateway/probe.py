"""``python -m gateway.probe``: exit code 0 if the gateway on this machine is up (or, with ``--ready``, can serve)."""

from __future__ import annotations

import sys
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.server import LIVE
from gateway.settings import load_settings


@click.command()
@click.option(
    "--ready", is_flag=True, help="Ask whether all stages answer, not only whether the process does."
)
def main(ready: bool) -> None:
    """Ask the gateway's health service, on the port of UNCLIP_PORT."""
    with grpc.insecure_channel(f"127.0.0.1:{load_settings().port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service="" if ready else LIVE), timeout=4)
        except grpc.RpcError:
            sys.exit("the gateway does not answer")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit("the gateway is not serving")


if __name__ == "__main__":
    main()
