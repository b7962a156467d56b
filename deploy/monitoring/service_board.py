"""The dashboard that an operator looks at first."""

from __future__ import annotations

from deploy.monitoring.panels import WINDOW, Board, Panel, Query, Row, quantiles, rate

# Statuses of requests that failed for no fault of the caller's.
FAILURES = "unavailable|internal|failed_precondition"

SERVICE = Board(
    "service",
    "unclip / Service",
    (
        Row(
            "Rate, errors, duration",
            (
                Panel(
                    "Requests",
                    "reqps",
                    "Finished requests by flow.",
                    (Query(rate("unclip_requests_total", "flow"), "{{flow}}"),),
                ),
                Panel(
                    "Requests by model",
                    "reqps",
                    "Finished requests by the model that answered; none: refused before that was known.",
                    (Query(rate("unclip_requests_total", "model"), "{{model}}"),),
                ),
                Panel(
                    "Errors",
                    "percentunit",
                    "Share of requests that failed for no fault of the caller's.",
                    (
                        Query(
                            f'sum(rate(unclip_requests_total{{status=~"{FAILURES}"}}[{WINDOW}]))'
                            f" / sum(rate(unclip_requests_total[{WINDOW}]))",
                            "failed",
                        ),
                    ),
                ),
                Panel(
                    "Duration",
                    "s",
                    "From a request's arrival to its end.",
                    quantiles("unclip_request_seconds", "flow"),
                ),
                Panel(
                    "In flight",
                    "short",
                    "Requests being worked on.",
                    (Query("sum by (flow) (unclip_requests_in_flight)", "{{flow}}"),),
                ),
            ),
        ),
        Row(
            "What goes wrong",
            (
                Panel(
                    "Refusals",
                    "reqps",
                    "By gRPC status.",
                    (Query(rate("unclip_refusals_total", "reason"), "{{reason}}"),),
                ),
                Panel(
                    "Refusals at the door",
                    "reqps",
                    "Of these, refused before any stage worked, by what was short.",
                    (Query(rate("unclip_door_refusals_total", "reason"), "{{reason}}"),),
                ),
                Panel(
                    "Cancelled and expired",
                    "reqps",
                    "Callers that left, and requests that ran out of time.",
                    (
                        Query(f"sum(rate(unclip_cancellations_total[{WINDOW}]))", "cancelled"),
                        Query(f"sum(rate(unclip_deadline_misses_total[{WINDOW}]))", "expired"),
                    ),
                ),
                Panel(
                    "Retries",
                    "ops",
                    "Calls on stages that were made again.",
                    (Query(rate("unclip_stage_retries_total", "stage"), "{{stage}}"),),
                ),
                Panel(
                    "Stages",
                    "short",
                    "1: the stage answers the gateway.",
                    (Query("min by (model, stage) (unclip_stage_up)", "{{model}} {{stage}}"),),
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel(
                    "Bytes",
                    "Bps",
                    "Of requests and responses.",
                    (
                        Query(f"sum(rate(unclip_received_bytes_total[{WINDOW}]))", "received"),
                        Query(f"sum(rate(unclip_sent_bytes_total[{WINDOW}]))", "sent"),
                    ),
                ),
                Panel(
                    "Bytes in work",
                    "bytes",
                    "Memory that running requests may take, of each gateway.",
                    (Query("max(unclip_bytes_in_work)", "largest"),),
                ),
                Panel(
                    "Encoder caches",
                    "ops",
                    "Prompts and pictures found in the caches of what was encoded.",
                    (
                        Query(rate("unclip_text_cache_total", "outcome"), "texts, {{outcome}}"),
                        Query(rate("unclip_image_cache_total", "outcome"), "pictures, {{outcome}}"),
                    ),
                ),
            ),
        ),
    ),
)
