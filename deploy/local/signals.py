"""Signals that end a command which has started processes."""

from __future__ import annotations

import signal
from types import FrameType


def stop_on_signals() -> None:
    """The first SIGINT or SIGTERM raises KeyboardInterrupt.

    Any more are ignored, so that nothing interrupts the clean-up and is left behind.
    """
    signal.signal(signal.SIGTERM, _stop_once)
    signal.signal(signal.SIGINT, _stop_once)


def _stop_once(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
