"""Whose turn it is: a tenant that asks for more than its share is served after those that ask for less."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from gateway.stages.budget import Priority

Owner = tuple[str, Priority]  # a tenant; its batch work does not delay what it waits for


class Shares:
    """How far each tenant's work reaches, if those that are at work share the stages equally.

    What is admitted lags by that: it is due so much later. So many requests of one tenant wait for one
    another, and not the others for them. ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[Owner, float] = {}
        self._at_work: Counter[str] = Counter()

    def lag(self, tenant: str, priority: Priority) -> float:
        """Seconds by which the tenant's next request is due later; 0 where nobody is known."""
        now = self._clock()
        return max(0.0, self._until.get((tenant, priority), now) - now) if tenant else 0.0

    @contextlib.contextmanager
    def charged(self, tenant: str, priority: Priority, left: Callable[[], float]) -> Iterator[None]:
        """A request that is at work. left: gives the seconds of the stages that it still needs.

        What it has not used when it ends is given back.
        """
        if not tenant:
            yield
            return
        owner = tenant, priority
        now = self._clock()
        self._until = {other: until for other, until in self._until.items() if until > now}
        self._at_work[tenant] += 1
        among = len(self._at_work)
        self._until[owner] = max(now, self._until.get(owner, now)) + among * left()
        try:
            yield
        finally:
            if owner in self._until:
                self._until[owner] -= among * left()
            self._at_work[tenant] -= 1
            if not self._at_work[tenant]:
                del self._at_work[tenant]
