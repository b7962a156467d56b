"""The local stack: four Ray Serve applications on an embedded one-node Ray, and the gateway in front of them.

``python -m deploy.local.stack`` runs it until Ctrl-C; ``python -m deploy.local.stack -- COMMAND...`` until COMMAND ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console

from deploy.local.loopback import NODE_ADDRESS
from gateway.settings import Settings as GatewaySettings
from gateway.settings import UnknownSetting, load_settings, refuse_unknown

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "deploy/serve"
STAGES = ("text_encoder", "image_encoder", "prior", "decoder")
STOP_GRACE, STOP_SECONDS = 2.0, 15.0
RAY_ENVIRONMENT = {
    # Nothing is reported anywhere, and no hub is asked for models.
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    # Other users of this machine must not be able to run code in our Ray.
    "RAY_AUTH_MODE": "token",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Ray's workers are the service here, not background work.
    "RAY_worker_niceness": "0",
    # A busy machine takes longer than 5 s to start a proxy.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
}
console = Console(stderr=True)


class StackSettings(BaseSettings):
    """Ports of the local Ray Serve, from the environment: STACK_GRPC_PORT, STACK_HTTP_PORT, STACK_METRICS_PORT (0: drawn by Ray);
    seconds to wait for health."""

    model_config = SettingsConfigDict(env_prefix="STACK_", frozen=True)

    grpc_port: int = Field(default=9000, ge=1, le=65535)
    http_port: int = Field(default=8000, ge=1, le=65535)
    metrics_port: int = Field(default=0, ge=0, le=65535)
    timeout: float = Field(default=300.0, gt=0)


def load_stack_settings() -> StackSettings:
    """Read the environment. Raises UnknownSetting for a misspelt variable, ValidationError for a bad value."""
    refuse_unknown("STACK_", [f"STACK_{field.upper()}" for field in StackSettings.model_fields])
    return StackSettings()


class StackError(Exception):
    """The stack cannot start; the message says why and what to do."""


def serve_config(stages: Sequence[str], settings: StackSettings) -> dict[str, Any]:
    """One Serve config of several stages' files, on the ports of the settings."""
    configs = [yaml.safe_load((CONFIGS / f"{stage}.yaml").read_text()) for stage in stages]
    merged = dict(configs[0])
    servicers = [function for c in configs for function in c["grpc_options"]["grpc_servicer_functions"]]
    merged["grpc_options"] = {
        **merged["grpc_options"],
        "port": settings.grpc_port,
        "grpc_servicer_functions": sorted(set(servicers)),
    }
    merged["http_options"] = {**merged["http_options"], "port": settings.http_port}
    merged["applications"] = [application for c in configs for application in c["applications"]]
    return merged


def free_port() -> int:
    """A local port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free(port: int, setting: str) -> None:
    """Raises StackError if something listens on a local port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise StackError(f"port {port} is in use; set {setting} to another one") from None


@contextlib.contextmanager
def stages_running(stages: Sequence[str] = STAGES, settings: StackSettings | None = None) -> Iterator[str]:
    """The stages on an embedded Ray, healthy inside the block; yields their address. Raises StackError."""
    settings = settings or load_stack_settings()
    with cluster_running(serve_config(stages, settings), settings) as address:
        yield address


@contextlib.contextmanager
def cluster_running(
    config: dict[str, Any], settings: StackSettings, *, cpus: int | None = None, gpus: int | None = None
) -> Iterator[str]:
    """A Serve config, on the ports of the settings, on an embedded Ray of its own; see ``stages_running``.

    cpus, gpus: how many replicas may ask for; those that are there (one CPU a stage at least), unless given.
    """
    require_free(settings.grpc_port, "STACK_GRPC_PORT")
    require_free(settings.http_port, "STACK_HTTP_PORT")
    os.environ.update(RAY_ENVIRONMENT)  # before Ray is imported: it reads these once
    import ray
    from ray import serve

    with _stops_ray_late(ray, serve):
        console.print("starting Ray ...")
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            num_cpus=cpus or max(os.cpu_count() or 1, len(STAGES)),
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            namespace="unclip",
            object_store_memory=256 * 2**20,
            runtime_env={"worker_process_setup_hook": "deploy.local.loopback.bind_serve_to_loopback"},
            _node_ip_address=NODE_ADDRESS,
            _metrics_export_port=settings.metrics_port or None,
        )
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray sets its own, which aborts the process
        serve.start(
            http_options=config["http_options"],
            grpc_options=config["grpc_options"],
            logging_config={"log_level": "WARNING"},
        )
        deploy(config, settings.timeout)
        yield f"127.0.0.1:{settings.grpc_port}"


def deploy(config: dict[str, Any], timeout: float) -> None:
    """Bring the running Serve to a config and wait until all of it runs. Raises StackError."""
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    # The public `serve deploy` needs the dashboard; this is what `serve run CONFIG` calls.
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))
    _wait_for_applications(serve, timeout)


@contextlib.contextmanager
def _stops_ray_late(ray: Any, serve: Any) -> Iterator[None]:
    try:
        yield
    finally:
        console.print("stopping Ray ...")
        with contextlib.suppress(Exception):
            serve.shutdown()
        ray.shutdown()


def _wait_for_applications(serve: Any, timeout: float) -> None:
    """Until all run; shows what is waited for. Raises StackError if one fails or time runs out."""
    started, shown = time.monotonic(), ""
    while True:
        applications = serve.status().applications
        states = {name: str(getattr(a.status, "value", a.status)) for name, a in applications.items()}
        if line := ", ".join(
            f"{name} {state.lower()}" for name, state in sorted(states.items()) if state != "RUNNING"
        ):
            if line != shown:
                console.print(f"waiting for: {line}")
                shown = line
        elif states:
            return
        for name, application in applications.items():
            if states[name] in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise StackError(f"{name} does not start: {application.message}")
        if time.monotonic() - started > timeout:
            raise StackError(f"not ready after {timeout:.0f} s: {line}; STACK_TIMEOUT allows more")
        time.sleep(1.0)


@contextlib.contextmanager
def gateway_running(stages: str, settings: GatewaySettings, timeout: float = 60.0) -> Iterator[str]:
    """A gateway process in front of the stages at one address, healthy inside the block; yields its address."""
    require_free(settings.port, "UNCLIP_PORT")
    addresses = {f"UNCLIP_{stage.upper()}_ADDRESS": stages for stage in STAGES}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.server"],
        env={
            **os.environ,
            **addresses,
            "UNCLIP_PORT": str(settings.port),
            "UNCLIP_STOP_GRACE": str(STOP_GRACE),
        },
        cwd=ROOT,
        start_new_session=True,
    )
    address = f"{settings.host}:{settings.port}"
    try:
        _wait_for_gateway(process, address, timeout)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_gateway(process: subprocess.Popen[bytes], address: str, timeout: float) -> None:
    started = time.monotonic()
    console.print("waiting for: gateway")
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() - started < timeout:
            if process.poll() is not None:
                raise StackError("the gateway did not start; its own message is above")
            with contextlib.suppress(grpc.RpcError):
                if (
                    stub.Check(health_pb2.HealthCheckRequest(), timeout=2).status
                    == health_pb2.HealthCheckResponse.SERVING
                ):
                    return
            time.sleep(0.2)
    raise StackError(f"the gateway is not healthy after {timeout:.0f} s")


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The whole stack; yields the gateway's address."""
    settings, gateway = load_stack_settings(), load_settings()
    require_free(gateway.port, "UNCLIP_PORT")
    with stages_running(settings=settings) as stages, gateway_running(stages, gateway) as address:
        yield address


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(command: tuple[str, ...]) -> None:
    """Run the local stack in the foreground until Ctrl-C, or until COMMAND, run against it, has ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running() as address:
            if command:
                code = subprocess.run(
                    command, env={**os.environ, "UNCLIP_ADDRESS": address}, cwd=ROOT, check=False
                ).returncode
                sys.exit(code)
            console.print(f"ready: the gateway listens on {address}; stop with Ctrl-C")
            signal.pause()
    except (StackError, UnknownSetting, ValidationError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        console.print("stopped")


if __name__ == "__main__":
    main()
