"""Places for calls, and the memory that their pictures take: what all models' requests share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from gateway import metrics
from services.wire.errors import Overloaded


class Places:
    """Keeps the books. wait: tells the seconds until all admitted work is done."""

    def __init__(self, max_requests: int, max_bytes: int, wait: Callable[[], float]) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._wait = wait
        self._requests = 0
        self._bytes = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for calls. Raises Overloaded if all are taken."""
        if self._requests >= self._max_requests:
            raise refusal("requests", f"{self._max_requests} requests are being worked on", self._relief())
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextlib.contextmanager
    def holding(self, size: int, own: int = 0) -> Iterator[None]:
        """Bytes that a request keeps in memory while it is worked on.

        Raises Overloaded if they are too many now. own: what the same request holds already. One that needs
        more than there is gets it when nobody else is there.
        """
        others = self._bytes - own
        if others > 0 and self._bytes + size > self._max_bytes:
            raise refusal("bytes", "too many bytes are being worked on", self._relief())
        with self.booked(size):
            yield

    @contextlib.contextmanager
    def booked(self, size: int) -> Iterator[None]:
        """Bytes that are in memory whatever is allowed, such as an answer's."""
        self._bytes += size
        metrics.bytes_in_work.set(self._bytes)
        try:
            yield
        finally:
            self._bytes -= size
            metrics.bytes_in_work.set(self._bytes)

    def _relief(self) -> float:
        """Seconds until a request that is under way may be expected to end."""
        return max(1.0, self._wait() / max(1, self._requests))


def refusal(kind: str, reason: str, retry_after: float) -> Overloaded:
    """The error for a request that may not start now, counted."""
    metrics.door_refusals.labels(kind).inc()
    return Overloaded(reason, retry_after, "gateway")
