"""Work in a process of its own: callers share none with Ray's driver, nor peers with one another."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def apart(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a function returns, or a coroutine function."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_run, work, args, options).result()


def _run(work: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    found = work(*args, **options)
    return asyncio.run(found) if inspect.iscoroutine(found) else found
