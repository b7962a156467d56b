"""How long a call may take, and when a full service is asked again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from unclip_client.errors import ServiceFull, UnclipError


@dataclass
class Patience:
    """One call's. seconds: in all. wait: whether it is made again."""

    seconds: float
    wait: bool
    _started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds, never quite 0."""
        return max(0.001, self._started + self.seconds - time.monotonic())

    def delay(self, error: UnclipError) -> float | None:
        """Seconds until the call should be made again; None if it should not."""
        # What is unavailable was asked for three times already, by the service itself.
        delay = error.retry_after if isinstance(error, ServiceFull) else None
        return delay if self.wait and delay is not None and delay < self.left else None
