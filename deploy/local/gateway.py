"""The gateway's process in front of local stages."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
    with gateway_starting(stages, settings) as gateway:
        gateway.wait(timeout)
        yield gateway.address


@dataclass(frozen=True)
class LocalGateway:
    """A gateway's process, which may not be ready yet."""

    process: subprocess.Popen[bytes]
    address: str
    tls: bool

    def check(self) -> None:
        """Raises StackError if it has ended."""
        if self.process.poll() is not None:
            raise StackError("the gateway did not start; its own message is above")

    def wait(self, timeout: float = 60.0) -> None:
        """Until it is ready. Raises StackError if it does not get there."""
        started = time.monotonic()
        console.print("waiting for: gateway")
        ready = _listens if self.tls else _serves
        while time.monotonic() - started < timeout:
            self.check()
            if ready(self.address):
                return
            time.sleep(0.2)
        raise StackError(f"the gateway is not ready after {timeout:.0f} s")


@contextlib.contextmanager
def gateway_starting(stages: str, settings: Settings) -> Iterator[LocalGateway]:
    """The same, but it has yet to become ready."""
    require_free(settings.port, "UNCLIP_PORT")
    addresses = {f"{stage}_address": stages for stage in STAGES}
    own = settings.model_copy(update={**addresses, "stop_grace": STOP_GRACE})
    command = [sys.executable, "-m", "gateway.server"]
    # A session of its own: a Ctrl-C at the terminal is for this process, which then stops the gateway.
    process = subprocess.Popen(
        command, env={**os.environ, **own.environment()}, cwd=ROOT, start_new_session=True
    )
    address = reachable_address(settings.host, settings.port)
    try:
        yield LocalGateway(process, address, bool(settings.tls_certificate))
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
