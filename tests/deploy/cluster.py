"""A Ray cluster with a Serve config in a process of its own, told by lines of JSON what to do.

``Cluster`` is its handle.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from deploy.local.cluster import cluster_running, serve_config, wait_for_applications
from deploy.local.ports import free_port
from deploy.local.settings import StackSettings
from services.bundles.bundle import ROOT
from services.wire.stages import StageName

TIMEOUT = 480.0
CPUS, GPUS = 64, 16  # as many as any values set asks for; without real ones stages run on the CPU
ANSWER = "answer:"


class Cluster:
    """``address`` is where its stages answer, ``metrics`` (host:port) what Prometheus scrapes."""

    def __init__(
        self, process: subprocess.Popen[str], config: dict[str, Any], settings: StackSettings
    ) -> None:
        self._process, self.config = process, config
        self.address, self.metrics = f"127.0.0.1:{settings.grpc_port}", f"127.0.0.2:{settings.metrics_port}"

    def ask(self, **command: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise AssertionError("the cluster's process has ended")

    def deploy(self, config: dict[str, Any]) -> None:
        """Roll out another config."""
        ports = {key: self.config[key] for key in ("grpc_options", "http_options")}
        self.ask(deploy={**config, **ports})

    def running(self, application: str) -> int:
        """Replicas that take requests."""
        states: dict[str, int] = self.ask(states=application)
        return states.get("RUNNING", 0)

    def replace(self, application: str, seconds: float = 120) -> None:
        """Kill its only replica, as a lost node would, and wait for another."""
        before = self.ask(kill=application)
        wait_for(
            lambda: self.ask(replicas=application) not in ([], [before]) and self.running(application) == 1,
            seconds,
            "a new replica",
        )


@contextlib.contextmanager
def cluster(
    stages: tuple[StageName, ...], change: Callable[[dict[str, Any]], None] = lambda config: None
) -> Iterator[Cluster]:
    """The stages on a Ray of their own that believes in CPUS and GPUS.

    ``change`` may alter their Serve config first.
    """
    settings = StackSettings(
        grpc_port=free_port(), http_port=free_port(), metrics_port=free_port(), timeout=TIMEOUT
    )
    config = serve_config(stages, settings)
    change(config)
    command = [sys.executable, "-m", "tests.deploy.cluster"]
    environment = {**os.environ, "RAY_metrics_report_interval_ms": "2000"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        handle = Cluster(process, config, settings)
        assert handle.ask(config=config, settings=settings.model_dump()) == "ready"
        yield handle
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(120) == 0


def application(config: dict[str, Any], name: str) -> dict[str, Any]:
    """One of a Serve config's applications."""
    found: dict[str, Any] = next(a for a in config["applications"] if a["name"] == name)
    return found


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Until it is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


def _replicas(name: str) -> list[str]:
    """Names of the actors that are an application's replicas."""
    import ray

    actors = (a["name"] for a in ray.util.list_named_actors(all_namespaces=True))
    return [actor for actor in actors if actor.startswith(f"SERVE_REPLICA::{name}#")]


def deploy(config: dict[str, Any]) -> None:
    """As KubeRay brings a running Serve to a config."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    # The public `serve deploy` needs the dashboard; this is what `serve run CONFIG` calls.
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))


def _obey(command: dict[str, Any]) -> Any:
    import ray
    from ray import serve

    if "deploy" in command:
        deploy(command["deploy"])
        wait_for_applications(TIMEOUT)
    elif "replicas" in command:
        return _replicas(command["replicas"])
    elif "kill" in command:
        (replica,) = _replicas(command["kill"])
        ray.kill(ray.get_actor(replica, namespace="serve"))
        return replica
    elif "states" in command:
        (deployment,) = serve.status().applications[command["states"]].deployments.values()
        return {
            str(getattr(state, "value", state)): count for state, count in deployment.replica_states.items()
        }
    return "done"


def _main() -> None:
    first = json.loads(sys.stdin.readline())
    with cluster_running(first["config"], StackSettings(**first["settings"]), deploy, cpus=CPUS, gpus=GPUS):
        print(ANSWER, json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(ANSWER, json.dumps(_obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    _main()
