"""The gateway's process in front of local stages."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.ports import require_free
from deploy.local.settings import StackError, console
from gateway.addresses import reachable_address
from gateway.settings import Settings
from services.wire.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
STOP_GRACE = 2.0
STOP_SECONDS = 15.0


@contextlib.contextmanager
def gateway_running(stages: str, settings: Settings, timeout: float = 60.0) -> Iterator[str]:
    """A gateway process with these settings, in front of the stages at one address; yields its own address.

    It is ready inside the block. Raises StackError if it does not get there.
    """
    with gateway_starting(stages, settings, timeout) as ready:
        yield ready()


@contextlib.contextmanager
def gateway_starting(stages: str, settings: Settings, timeout: float = 60.0) -> Iterator[Callable[[], str]]:
    """The same, but what is yielded waits until it is ready, and gives its address or raises StackError."""
    require_free(settings.port, "UNCLIP_PORT")
    addresses = {f"{stage}_address": stages for stage in STAGES}
    own = settings.model_copy(update={**addresses, "stop_grace": STOP_GRACE})
    command = [sys.executable, "-m", "gateway.server"]
    # A session of its own: a Ctrl-C at the terminal is for this process, which then stops the gateway.
    process = subprocess.Popen(
        command, env={**os.environ, **own.environment()}, cwd=ROOT, start_new_session=True
    )
    address = reachable_address(settings.host, settings.port)

    def ready() -> str:
        _wait_until_ready(process, address, bool(settings.tls_certificate), timeout)
        return address

    try:
        yield ready
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, tls: bool, timeout: float) -> None:
    started = time.monotonic()
    console.print("waiting for: gateway")
    ready = _listens if tls else _serves
    while time.monotonic() - started < timeout:
        if process.poll() is not None:
            raise StackError("the gateway did not start; its own message is above")
        if ready(address):
            return
        time.sleep(0.2)
    raise StackError(f"the gateway is not ready after {timeout:.0f} s")


def _serves(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _listens(address: str) -> bool:
    """All that can be asked without a certificate; its stages are up before it."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True
