"""The local stack with a Prometheus beside it: ``python -m deploy.monitoring.observe -- COMMAND...``.

Prometheus (Debian's) scrapes the gateway and Ray and evaluates the alert rules. When COMMAND has ended, every
panel is drawn to a file, and Prometheus and its data are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import yaml
from pydantic import ValidationError

from deploy.local.cluster import ROOT, stages_running
from deploy.local.gateway import gateway_running
from deploy.local.loopback import NODE_ADDRESS
from deploy.local.ports import free_port
from deploy.local.settings import StackError, console, load_stack_settings
from deploy.local.signals import stop_on_signals
from deploy.monitoring.dashboards import BOARDS
from deploy.monitoring.panels import WINDOW, Board, Panel
from gateway.environment import CLIENT_ADDRESS, UnknownSetting, load_settings

RULES = ROOT / "deploy/chart/rules/unclip.yaml"
SCRAPE_SECONDS = 2
RATE_WINDOW = "20s"
RAY_INTERVAL = "RAY_metrics_report_interval_ms"  # Ray's own setting
START_SECONDS = 30.0  # in which Prometheus has to be ready
STOP_SECONDS = 30.0
COLUMNS = 2  # of panels in a picture of a dashboard


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    address: str

    def get(self, path: str, **parameters: Any) -> Any:
        """What its HTTP API answers. Raises StackError, with Prometheus' own words, if it refuses."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise StackError(f"Prometheus refused {path}: {json.load(error).get('error', error)}") from None

    def series(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """The series of a query between two times (seconds since 1970), as Grafana would ask for them."""
        query = expression.replace(WINDOW, RATE_WINDOW)
        found: list[dict[str, Any]] = self.get(
            "query_range", query=query, start=start, end=end, step=SCRAPE_SECONDS
        )["result"]
        return found

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = self.get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def broken_rules(self) -> list[str]:
        """Names of the rules that could not be evaluated or have not been evaluated yet."""
        groups = self.get("rules")["groups"]
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]


@contextlib.contextmanager
def prometheus_running(targets: dict[str, str], rules: Path = RULES) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``targets`` (job: host:port) and evaluates ``rules``. Raises StackError."""
    binary = shutil.which("prometheus")
    if binary is None:
        raise StackError("prometheus is not installed; Debian has it: apt-get install prometheus")
    address = f"127.0.0.1:{free_port()}"
    jobs = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(rules)],
        "scrape_configs": jobs,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        options = [
            f"--config.file={file}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
        process = subprocess.Popen([binary, *options], start_new_session=True)
        try:
            _wait_for(address, process)
            yield Prometheus(address)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        if process.poll() is not None:
            raise StackError("Prometheus did not start; its own message is above")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready", timeout=2):
            return
        time.sleep(0.2)
    raise StackError(f"Prometheus is not ready after {START_SECONDS:.0f} s")


@contextlib.contextmanager
def observed() -> Iterator[tuple[str, Prometheus]]:
    """The whole stack and a Prometheus that watches it. Yields the gateway's address and the Prometheus."""
    ray_port = free_port()
    gateway_port = free_port()
    settings = load_stack_settings().model_copy(update={"metrics_port": ray_port})
    gateway = load_settings().model_copy(update={"metrics_port": gateway_port})
    os.environ[RAY_INTERVAL] = str(1000 * SCRAPE_SECONDS)
    targets = {"gateway": f"127.0.0.1:{gateway_port}", "ray": f"{NODE_ADDRESS}:{ray_port}"}
    with (
        stages_running(settings=settings) as stages,
        gateway_running(stages, gateway) as address,
        prometheus_running(targets) as prometheus,
    ):
        yield address, prometheus


def draw(board: Board, prometheus: Prometheus, start: float, end: float, target: Path) -> list[str]:
    """Draw every panel of a dashboard into one picture. Returns the titles of panels without any series.

    start, end: the time that is shown, in seconds since 1970.
    """
    panels = list(board.panels)
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(14, 3.2 * rows), squeeze=False)
    counts = [
        _plot(axis, panel, prometheus, start, end) for axis, panel in zip(axes.flat, panels, strict=False)
    ]
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    figure.suptitle(board.title)
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=80)
    plt.close(figure)
    return [panel.title for panel, count in zip(panels, counts, strict=True) if not count]


def _plot(axis: Any, panel: Panel, prometheus: Prometheus, start: float, end: float) -> int:
    """Draw one panel and return how many series it has."""
    count = 0
    for query in panel.queries:
        for series in prometheus.series(query.expression, start, end):
            times = [float(t) - start for t, _ in series["values"]]
            label = query.legend
            for name, value in series["metric"].items():
                label = label.replace("{{" + name + "}}", value)
            axis.plot(times, [float(v) for _, v in series["values"]], label=label)
            count += 1
    axis.set_title(f"{panel.title} [{panel.unit}]", fontsize=9)
    axis.margins(y=0.15)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=7)
    if count:
        axis.legend(fontsize=6, loc="upper left")
    return count


def _run(command: Sequence[str], address: str) -> int:
    """Run a command that is told the gateway's address, or wait for Ctrl-C. Returns its exit code."""
    with contextlib.suppress(KeyboardInterrupt):
        if command:
            environment = {**os.environ, CLIENT_ADDRESS: address}
            return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
        signal.pause()
    return 0


def _report(prometheus: Prometheus, started: float, out: Path) -> None:
    """Draw every dashboard and print what fires."""
    for board in BOARDS:
        picture = out / f"{board.name}.png"
        empty = draw(board, prometheus, started, time.time(), picture)
        console.print(f"{picture}" + (f"; without data: {', '.join(empty)}" if empty else ""))
    broken = ", ".join(prometheus.broken_rules())
    firing = ", ".join(sorted(prometheus.firing()))
    console.print(f"rules that could not be evaluated: {broken or 'none'}")
    console.print(f"alerts that fire: {firing or 'none'}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "out/observe",
    show_default="out/observe",
    help="Where the pictures go.",
)
def main(command: tuple[str, ...], out: Path) -> None:
    """Run the stack under Prometheus until COMMAND (or Ctrl-C) ends, then draw every dashboard to a file."""
    stop_on_signals()
    try:
        with observed() as (address, prometheus):
            started = time.time()
            console.print(
                f"ready: the gateway listens on {address}, Prometheus on http://{prometheus.address}"
            )
            code = _run(command, address)
            time.sleep(3 * SCRAPE_SECONDS)  # what happened last has to be scraped, too
            _report(prometheus, started, out)
            sys.exit(code)
    except (StackError, UnknownSetting, ValidationError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
