"""``python -m gateway.probe``.

Exit code 0 if the gateway on this machine is up (or, with ``--ready``, can serve).
"""

from __future__ import annotations

import sys
import urllib.request
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.addresses import reachable_address
from gateway.environment import load_settings
from gateway.server import LIVE
from gateway.settings import Settings

SECONDS = 5


@click.command()
@click.option("--ready", is_flag=True, help="Ask whether it can serve, not only whether the process answers.")
def main(ready: bool) -> None:
    """Ask the gateway on this machine: at UNCLIP_METRICS_PORT, where there is one, else over gRPC.

    Over gRPC it can ask only a gateway without TLS.
    """
    settings = load_settings()
    if not (_over_http if settings.metrics_port else _over_grpc)(settings, ready):
        sys.exit("the gateway is not serving")


def _over_http(settings: Settings, ready: bool) -> bool:
    address = reachable_address(settings.host, settings.metrics_port)
    try:
        with urllib.request.urlopen(
            f"http://{address}/{'readyz' if ready else 'livez'}", timeout=SECONDS
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _over_grpc(settings: Settings, ready: bool) -> bool:
    with grpc.insecure_channel(reachable_address(settings.host, settings.port)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            asked = health_pb2.HealthCheckRequest(service="" if ready else LIVE)
            answer = stub.Check(asked, timeout=SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    main()
