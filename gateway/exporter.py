"""The listener for operators' machines, always in the clear: /metrics, and /livez and /readyz for probes.

It runs in threads of its own, so that it answers while the event loop is busy; /livez asks the loop.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

LOOP_SECONDS = 4.0  # in which a live loop takes a turn


def serve_metrics(host: str, port: int, ready: Callable[[], bool]) -> Callable[[], None]:
    """Listen; returns what stops it. Raises OSError. Called on the event loop that /livez asks.

    ready: whether requests can be answered.
    """
    loop = asyncio.get_running_loop()
    metrics: Any = make_wsgi_app()

    def live() -> bool:
        turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
        try:
            turn.result(LOOP_SECONDS)
        except TimeoutError:
            return False
        return True

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        checks: dict[str, Callable[[], bool]] = {"/livez": live, "/readyz": lambda: live() and ready()}
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            found: Iterable[bytes] = metrics(environ, start_response)
            return found
        good = check()
        status = "200 OK" if good else "503 Service Unavailable"
        start_response(status, [("content-type", "text/plain; charset=utf-8")])
        return [b"ok" if good else b"not now"]

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind: Any = type("Exporter", (ThreadingWSGIServer,), {"address_family": family})
    server: ThreadingWSGIServer = make_server(host, port, app, kind, handler_class=_Silent)
    thread = threading.Thread(target=server.serve_forever, name="exporter", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class _Silent(WSGIRequestHandler):
    """Logs no request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
