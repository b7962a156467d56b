"""Which replica Ray Serve's proxies ask: of several, the one with the fewest requests.

Serve itself prefers the replica beside the proxy, and otherwise takes the better of two. In a cluster with a
proxy beside each replica that is no choice at all. ``python -m deploy.simulation --routing`` compares them.
"""

from __future__ import annotations

import random

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

CANDIDATES = 8  # as good as all of them in a fleet of this size, and cheap in a large one


class FewestRequests(FIFOMixin, RequestRouter):  # type: ignore[misc]  # Ray has no types
    """Requests are routed in the order they came."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Candidates in a random order; Serve takes the one with the fewest requests, the first among equals.

        If all of them are full, it asks again after a while.
        """
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        count = min(CANDIDATES, len(candidate_replicas))
        return [random.sample(candidate_replicas, count)] if count else []
