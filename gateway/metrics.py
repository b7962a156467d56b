"""The gateway's metrics, for Prometheus.

``docs/metrics.md`` lists them. No prompt, id or address is ever a label.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

# A picture takes a second on a GPU and minutes on a busy CPU.
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600)

# gRPC codes that the gateway answers with.
STATUSES = (
    "ok",
    "cancelled",
    "invalid_argument",
    "deadline_exceeded",
    "resource_exhausted",
    "unavailable",
    "failed_precondition",
    "internal",
    "not_found",
    "unimplemented",
    "unauthenticated",
    "permission_denied",
)

# Why a caller is not let in.
AUTHENTICATION_REASONS = ("none", "malformed", "unknown", "expired", "scope", "limited")

# What a tenant's quota bounds.
QUOTA_BOUNDS = ("pictures", "megapixel_steps", "in_flight")

# Why a request is refused on arrival: no place, no memory, no place in a stage, no time, or no quota.
DOOR_REASONS = ("reading", "requests", "bytes", "rows", "deadline", "quota")

requests = Counter("unclip_requests", "Finished requests.", ["flow", "model", "status"])
request_seconds = Histogram(
    "unclip_request_seconds",
    "Seconds from a request's arrival to its end.",
    ["flow", "model"],
    buckets=SECONDS,
)
in_flight = Gauge("unclip_requests_in_flight", "Requests being worked on.", ["flow"])
refusals = Counter(
    "unclip_refusals", "Requests that ended without a result and were not cancelled.", ["reason"]
)
cancellations = Counter("unclip_cancellations", "Requests whose caller left.", ["flow"])
deadline_misses = Counter("unclip_deadline_misses", "Requests that ran out of time.", ["flow"])
received_bytes = Counter("unclip_received_bytes", "Bytes of requests.", ["flow"])
sent_bytes = Counter("unclip_sent_bytes", "Bytes of responses.", ["flow"])
stage_seconds = Histogram(
    "unclip_stage_seconds", "Seconds that one picture spent in a stage.", ["model", "stage"], buckets=SECONDS
)
stage_up = Gauge(
    "unclip_stage_up", "Whether the stage answered when it was last looked at.", ["model", "stage"]
)
stage_retries = Counter("unclip_stage_retries", "Calls on a stage that were made again.", ["stage"])
door_refusals = Counter(
    "unclip_door_refusals", "Requests refused on arrival, before any stage worked.", ["reason"]
)
authentication_failures = Counter(
    "unclip_authentication_failures", "Calls that were not let in, or not allowed.", ["reason"]
)
quota_refusals = Counter(
    "unclip_quota_refusals", "Requests beyond their tenant's quota, by bound.", ["bound", "outcome"]
)
content_refusals = Counter(
    "unclip_content_refusals", "Prompts and pictures that content rules refused.", ["rule"]
)
bytes_in_work = Gauge("unclip_bytes_in_work", "Memory that running requests' messages and pictures may take.")
text_cache = Counter("unclip_text_cache", "Prompts looked up in the cache of encoded texts.", ["outcome"])
image_cache = Counter(
    "unclip_image_cache", "Pictures looked up in the cache of encoded pictures.", ["outcome"]
)
model = Gauge("unclip_gateway_model_info", "1 for each model that is served.", ["model", "version"])
model_mismatch = Gauge(
    "unclip_model_mismatch", "1 while stages serve different versions of the model.", ["model"]
)


def show_zeros(flows: Iterable[str], models: Iterable[str], stages: Iterable[str]) -> None:
    """Let every counter begin at 0: a rate cannot see the first event of a series that begins with it."""
    for flow in flows:
        for model in (*models, "none"):
            for status in STATUSES:
                requests.labels(flow, model, status)
            request_seconds.labels(flow, model)
        for counter in (cancellations, deadline_misses, received_bytes, sent_bytes):
            counter.labels(flow)
        in_flight.labels(flow)
    for stage in stages:
        stage_retries.labels(stage)
    for status in STATUSES[2:]:
        refusals.labels(status)
    for reason in DOOR_REASONS:
        door_refusals.labels(reason)
    for bound in QUOTA_BOUNDS:
        for outcome in ("refused", "shadow"):
            quota_refusals.labels(bound, outcome)
    for reason in AUTHENTICATION_REASONS:
        authentication_failures.labels(reason)
    for rule in ("word", "picture"):
        content_refusals.labels(rule)
    for outcome in ("hit", "miss"):
        text_cache.labels(outcome)
        image_cache.labels(outcome)


def observe_end(flow: str, model: str, status: str, seconds: float) -> None:
    """Count a request that has ended."""
    requests.labels(flow, model, status).inc()
    request_seconds.labels(flow, model).observe(seconds)
    if status == "cancelled":
        cancellations.labels(flow).inc()
    elif status != "ok":
        refusals.labels(status).inc()
    if status == "deadline_exceeded":
        deadline_misses.labels(flow).inc()
