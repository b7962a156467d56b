"""Serve configs on an embedded Ray of one node, on loopback only."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from deploy.local import forked_worker
from deploy.local.fork_server import fork_server_running
from deploy.local.loopback import NODE_ADDRESS
from deploy.local.models import SHIPPED, LocalModel, applications, local_models
from deploy.local.ports import require_free
from deploy.local.settings import StackError, StackSettings, console, load_stack_settings
from services.wire.stages import STAGES, StageName

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "deploy/serve"
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported anywhere
    # Other users of this machine must not be able to run code in our Ray.
    "RAY_AUTH_MODE": "token",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # The gateway goes first: it refuses, cancels and answers probes while stages compute.
    "RAY_worker_niceness": "10",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deploy.local.loopback.bind_serve_to_loopback",
    # A busy machine takes longer than 5 s to start a proxy, and than 60 s to start Ray's own API.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "240",
}


def serve_config(
    stages: Sequence[StageName], settings: StackSettings, models: Sequence[LocalModel] = ()
) -> dict[str, Any]:
    """One Serve config of several stages' files, for each model, on the ports of the settings.

    models: the one that ships, if none is given.
    """
    models = models or local_models([SHIPPED])
    configs = {stage: yaml.safe_load((CONFIGS / f"{stage}.yaml").read_text()) for stage in stages}
    merged = dict(configs[stages[0]])
    options = [config["grpc_options"] for config in configs.values()]
    servicers = [function for given in options for function in given["grpc_servicer_functions"]]
    merged["grpc_options"] = {
        **merged["grpc_options"],
        "port": settings.grpc_port,
        "grpc_servicer_functions": sorted(set(servicers)),
    }
    merged["http_options"] = {**merged["http_options"], "port": settings.http_port}
    merged["applications"] = [
        application
        for model in models
        for stage in stages
        if stage not in model.shared
        for application in applications(configs[stage], model, stage)
    ]
    return merged


@contextlib.contextmanager
def stages_running(
    stages: Sequence[StageName] = STAGES,
    settings: StackSettings | None = None,
    models: Sequence[LocalModel] = (),
    *,
    wait: bool = True,
) -> Iterator[str]:
    """The stages on an embedded Ray, healthy inside the block; yields their address. Raises StackError.

    wait: until they are healthy; else they start inside the block, which calls ``wait_for_applications``.
    """
    settings = settings or load_stack_settings()
    with cluster_running(serve_config(stages, settings, models), settings, wait=wait) as address:
        yield address


def run_applications(config: dict[str, Any]) -> None:
    """Start a config's applications.

    They are built here. Serve would build each in a process of its own, which takes 7 s of CPU to start.
    """
    from ray import serve

    targets = [
        serve.RunTarget(
            target=built(application), name=application["name"], route_prefix=application["route_prefix"]
        )
        for application in config["applications"]
    ]
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def built(application: dict[str, Any]) -> Any:
    """An application of a Serve config, with the options of its one deployment."""
    module, _, name = application["import_path"].partition(":")
    (options,) = application["deployments"]
    chosen = {key: value for key, value in options.items() if key != "name"}
    return getattr(importlib.import_module(module), name)({**application["args"], "deployment": chosen})


@contextlib.contextmanager
def cluster_running(
    config: dict[str, Any],
    settings: StackSettings,
    deploy: Callable[[dict[str, Any]], None] = run_applications,
    *,
    cpus: int | None = None,
    gpus: int | None = None,
    wait: bool = True,
) -> Iterator[str]:
    """A Serve config, on the ports of the settings, on an embedded Ray of its own; see ``stages_running``.

    deploy: starts its applications. cpus, gpus: how many replicas may ask for; unless given, those that are
    there (one CPU an application at least). wait: until they run.
    """
    require_free(settings.grpc_port, "STACK_GRPC_PORT")
    require_free(settings.http_port, "STACK_HTTP_PORT")
    os.environ.update(RAY_ENVIRONMENT)  # before Ray is imported: it reads these once
    with fork_server_running(), _stops_ray_late():
        from ray import serve

        console.print("starting Ray ...")
        _start_ray(
            num_cpus=cpus or max(os.cpu_count() or 1, len(config["applications"])),
            num_gpus=gpus,
            _metrics_export_port=settings.metrics_port or None,
        )
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(
            http_options=config["http_options"],
            grpc_options=config["grpc_options"],
            logging_config={"log_level": "WARNING"},
        )
        deploy(config)
        if wait:
            wait_for_applications(settings.timeout)
        yield f"127.0.0.1:{settings.grpc_port}"


def _start_ray(**options: Any) -> None:
    """Start an embedded Ray on loopback. Raises StackError."""
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with _without_idle_processes(), _with_forked_workers():
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                namespace="unclip",
                object_store_memory=256 * 2**20,
                _node_ip_address=NODE_ADDRESS,
                **options,
            )
    except Exception as error:  # Ray says no more precisely what it raises
        raise StackError(f"Ray does not start: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray sets its own, which aborts the process


@contextlib.contextmanager
def _without_idle_processes() -> Iterator[None]:
    """Ray's head starts inside the block without processes that ``ray.init`` has no option to leave out.

    These are the autoscaler of nodes, of which there is one, and the reader of logs, which stay in files.
    Each takes a second of CPU to start, and some 70 MiB.
    """
    from ray._private.node import Node

    with patch.object(Node, "start_monitor"), patch.object(Node, "start_log_monitor"):
        yield


@contextlib.contextmanager
def _with_forked_workers() -> Iterator[None]:
    """A Ray that starts inside the block asks the fork server for its workers, if there is one."""
    from ray._private.node import Node

    if forked_worker.ADDRESS not in os.environ:
        yield
        return
    start = Node.start_raylet

    def start_raylet(node: Node, *args: Any, **options: Any) -> None:
        node._ray_params.worker_path = forked_worker.__file__
        start(node, *args, **options)

    with patch.object(Node, "start_raylet", start_raylet):
        yield


@contextlib.contextmanager
def _stops_ray_late() -> Iterator[None]:
    import ray
    from ray import serve

    try:
        yield
    finally:
        console.print("stopping Ray ...")
        # Serve kills its controller while that still answers it, which Ray tells as an error of a task.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if ray.is_initialized():  # if it did not start, Serve would start another to shut down
                with contextlib.suppress(Exception):
                    serve.shutdown()
            ray.shutdown()


def wait_for_applications(timeout: float, check: Callable[[], None] = lambda: None) -> None:
    """Until all run; shows what is waited for. Raises StackError if one fails or time runs out.

    check: is called meanwhile, and may raise.
    """
    from ray import serve

    started = time.monotonic()
    shown = ""
    while True:
        check()
        applications = serve.status().applications
        states = {name: str(getattr(a.status, "value", a.status)) for name, a in applications.items()}
        waiting = [f"{name} {state.lower()}" for name, state in sorted(states.items()) if state != "RUNNING"]
        if line := ", ".join(waiting):
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
