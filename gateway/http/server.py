"""The HTTP server, in the gateway's process and on its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from gateway.http.app import build_app
from gateway.http.connections import KEEP_ALIVE_SECONDS, connection_class
from gateway.http.door import Door
from gateway.http.store import Memory, Objects, Store
from gateway.models import Models
from gateway.reading import Reading
from gateway.replays import Replays
from gateway.settings import Settings
from gateway.tls import ServerTls
from gateway.tokens import Authenticator

STALL_MILLISECONDS = 60_000
LEAST_CONNECTIONS = 1024  # a browser opens six at a time


class HttpServer:
    """Serves the Images API. port: the one it listens on, drawn by the system if the setting is 0."""

    def __init__(
        self,
        models: Models,
        authenticator: Authenticator,
        reading: Reading,
        replays: Replays,
        settings: Settings,
        tls: ServerTls | None = None,
    ) -> None:
        store = store_of(settings)
        app = build_app(models, store, replays)
        self._app = Door(app, models.places, authenticator, reading, settings)
        self._settings = settings
        self._tls = tls
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = settings.http_port or 0

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be listened on."""
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        listening = socket.create_server((self._settings.host, self.port), family=family, backlog=512)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a caller that reads nothing more is left
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_MILLISECONDS)
        self.port = listening.getsockname()[1]
        config = _config(self._app, LEAST_CONNECTIONS + 4 * self._settings.max_requests)
        if self._tls:
            config.load()
            config.ssl = self._tls.context
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started:
            await asyncio.sleep(0.01)

    async def stop(self, grace: float) -> None:
        """Take no new connections, give running requests ``grace`` seconds, then close."""
        if self._server is None or self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, math.ceil(grace))
        self._server.should_exit = True
        await self._serving


class _Server(uvicorn.Server):
    """Leaves signals to the gateway."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp, connections: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        http=connection_class(connections),  # h11, which bounds headers
        ws="none",
        timeout_keep_alive=int(KEEP_ALIVE_SECONDS),
    )


def store_of(settings: Settings) -> Store:
    """Where pictures are kept that answers name by URL."""
    if settings.picture_store == "memory":
        return Memory(settings.picture_store_bytes)
    return Objects(settings.picture_store)
