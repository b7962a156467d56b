"""``python -m deploy.local``: the local stack until Ctrl-C, or until a command has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import click
from pydantic import ValidationError

from deploy.local.cluster import ROOT, stages_running
from deploy.local.gateway import gateway_running
from deploy.local.ports import require_free
from deploy.local.settings import StackError, console, load_stack_settings
from deploy.local.signals import stop_on_signals
from gateway.settings import CLIENT_ADDRESS, UnknownSetting, load_settings


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The whole stack; yields the gateway's address."""
    settings = load_stack_settings()
    gateway = load_settings()
    require_free(gateway.port, "UNCLIP_PORT")
    with stages_running(settings=settings) as stages, gateway_running(stages, gateway) as address:
        yield address


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(command: tuple[str, ...]) -> None:
    """Run the local stack in the foreground until Ctrl-C, or until COMMAND, run against it, has ended."""
    stop_on_signals()
    try:
        with running() as address:
            if command:
                environment = {**os.environ, CLIENT_ADDRESS: address}
                sys.exit(subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode)
            console.print(f"ready: the gateway listens on {address}; stop with Ctrl-C")
            signal.pause()
    except (StackError, UnknownSetting, ValidationError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        console.print("stopped")


if __name__ == "__main__":
    main()
