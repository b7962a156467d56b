"""HTTP connections: those who say nothing, or a letter at a time, keep nobody else out.

A connection that has no request under way rests. It may rest so long; and when there are too many, the one
that has rested longest goes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0  # until the first request's head is there
KEEP_ALIVE_SECONDS = 75.0  # until the next one's is; longer than load balancers keep a connection without use


def connection_class(most: int) -> type[H11Protocol]:
    """The protocol of a server that keeps so many connections, beside those at work."""
    resting: dict[H11Protocol, None] = {}  # the longest first

    class Connection(H11Protocol):
        """One connection."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """It rests until it asks for something."""
            super().connection_made(transport)
            self._rest(HEAD_SECONDS)
            if len(self.connections) > most and resting:
                longest = next(iter(resting))
                assert isinstance(longest, Connection)
                longest.leave()

        def connection_lost(self, exc: Exception | None) -> None:
            """It is gone."""
            self._work()
            super().connection_lost(exc)

        def handle_events(self) -> None:
            """What came may have begun a request."""
            super().handle_events()
            if self.cycle is not None and not self.cycle.response_complete:
                self._work()

        def on_response_complete(self) -> None:
            """The request has its answer; the next one may be there already."""
            super().on_response_complete()
            if self.cycle is not None and self.cycle.response_complete and not self.transport.is_closing():
                self._rest(KEEP_ALIVE_SECONDS)

        def leave(self) -> None:
            """Close it, unless it is at work."""
            self._work()
            try:
                self.timeout_keep_alive_handler()
            except h11.LocalProtocolError:
                self.transport.close()

        def _rest(self, seconds: float) -> None:
            self._work()
            resting[self] = None
            self._timer = self.loop.call_later(seconds, self.leave)

        def _work(self) -> None:
            resting.pop(self, None)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Connection
