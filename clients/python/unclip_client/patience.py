"""How long a call may take, and when a full service is asked again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from unclip_client.errors import ServiceFull, Unavailable, UnclipError

UNAVAILABLE_SECONDS = 1.0  # before a service that did not answer is asked again
UNAVAILABLE_TIMES = 2


@dataclass
class Patience:
    """One call's. seconds: in all. wait: whether it is made again."""

    seconds: float
    wait: bool
    _started: float = field(default_factory=time.monotonic)
    _unavailable: int = 0

    @property
    def left(self) -> float:
        """Seconds, never quite 0."""
        return max(0.001, self._started + self.seconds - time.monotonic())

    def delay(self, error: UnclipError) -> float | None:
        """Seconds until the call should be made again; None if it should not."""
        delay = None
        if isinstance(error, ServiceFull):
            delay = error.retry_after
        elif isinstance(error, Unavailable) and self._unavailable < UNAVAILABLE_TIMES:
            self._unavailable += 1
            delay = UNAVAILABLE_SECONDS
        return delay if self.wait and delay is not None and delay < self.left else None
