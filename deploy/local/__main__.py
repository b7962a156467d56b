"""``python -m deploy.local``: the local stack until Ctrl-C, or until a command has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import click
from pydantic import ValidationError

from deploy.local.cluster import ROOT, stages_running, wait_for_applications
from deploy.local.gateway import gateway_starting
from deploy.local.models import SHIPPED, gateway_table, local_models
from deploy.local.ports import require_free
from deploy.local.settings import StackError, console, load_stack_settings
from deploy.local.signals import stop_on_signals
from gateway.addresses import reachable_address
from gateway.environment import CLIENT_ADDRESS, UnknownSetting, load_settings
from gateway.settings import Settings

HTTP_PORT = 8080  # of the Images API, if the stack runs for people and not for a command


@contextlib.contextmanager
def running(gateway: Settings, bundles: Sequence[str]) -> Iterator[str]:
    """The whole stack; yields the gateway's address."""
    settings = load_stack_settings()
    models = local_models(bundles)
    require_free(gateway.port, "UNCLIP_PORT")
    if gateway.http_port:
        require_free(gateway.http_port, "UNCLIP_HTTP_PORT")
    with stages_running(settings=settings, models=models, wait=False) as stages:
        table = gateway_table(models, stages)
        with gateway_starting(stages, gateway.model_copy(update={"models": table})) as starting:
            wait_for_applications(settings.timeout, starting.check)
            starting.wait()
            yield starting.address


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--model",
    "bundles",
    multiple=True,
    default=[SHIPPED],
    show_default=True,
    help="A bundle's folder; given again, for more models side by side. The first is the default.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(bundles: tuple[str, ...], command: tuple[str, ...]) -> None:
    """Run the local stack in the foreground until Ctrl-C, or until COMMAND, run against it, has ended."""
    stop_on_signals()
    try:
        settings = load_settings()
        if settings.http_port is None and not command:
            settings = settings.model_copy(update={"http_port": HTTP_PORT})
        with running(settings, bundles) as address:
            if command:
                environment = {**os.environ, CLIENT_ADDRESS: address}
                sys.exit(subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode)
            console.print(f"ready: gRPC on {address}")
            if settings.http_port:
                http = reachable_address(settings.host, settings.http_port)
                console.print(f"       the page on http://{http}: open it and draw")
                console.print(f"       the Images API on http://{http}/v1, described on http://{http}/docs")
            console.print("stop with Ctrl-C")
            signal.pause()
    except (StackError, UnknownSetting, ValidationError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        console.print("stopped")


if __name__ == "__main__":
    main()
