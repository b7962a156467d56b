"""Grafana's dashboards, from code: ``python -m deploy.monitoring.dashboards`` writes them into the chart; ``--check`` says if they are old."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "deploy/chart/dashboards"
WINDOW = "$__rate_interval"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """An expression in PromQL and what its series are called."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph: its title, its unit (Grafana's name), what it tells an operator, and its queries."""

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels under a heading."""

    name: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]

    @property
    def panels(self) -> Iterator[Panel]:
        """All of them."""
        return (panel for _, panels in self.rows for panel in panels)


def rate(metric: str, *by: str) -> str:
    """Events a second, summed over all but ``by``."""
    return f"sum by ({', '.join(by)}) (rate({metric}[{WINDOW}]))"


def quantile(share: float, metric: str, *by: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, sum by ({', '.join(('le', *by))}) (rate({metric}_bucket[{WINDOW}])))"


def quantiles(metric: str, *by: str) -> tuple[Query, ...]:
    """The median and the 95th percentile."""
    name = " ".join(f"{{{{{label}}}}}" for label in by)
    return tuple(
        Query(quantile(share, metric, *by), f"{name} p{round(100 * share)}".strip()) for share in (0.5, 0.95)
    )


SERVICE = Board(
    "service",
    "unclip / Service",
    (
        (
            "Rate, errors, duration",
            (
                Panel(
                    "Requests",
                    "reqps",
                    "Finished requests by flow.",
                    (Query(rate("unclip_requests_total", "flow"), "{{flow}}"),),
                ),
                Panel(
                    "Errors",
                    "percentunit",
                    "Share of requests that failed for no fault of the caller's.",
                    (
                        Query(
                            'sum(rate(unclip_requests_total{status=~"unavailable|internal|resource_exhausted|failed_precondition|deadline_exceeded"}'
                            f"[{WINDOW}])) / sum(rate(unclip_requests_total[{WINDOW}]))",
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
        (
            "What goes wrong",
            (
                Panel(
                    "Refusals",
                    "reqps",
                    "By gRPC status.",
                    (Query(rate("unclip_refusals_total", "reason"), "{{reason}}"),),
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
                    (Query("min by (stage) (unclip_stage_up)", "{{stage}}"),),
                ),
            ),
        ),
        (
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
                    "Prompt cache",
                    "ops",
                    "Prompts found in the cache of encoded texts.",
                    (Query(rate("unclip_text_cache_total", "outcome"), "{{outcome}}"),),
                ),
            ),
        ),
    ),
)
STAGES = Board(
    "stages",
    "unclip / Stages and engine",
    (
        (
            "Where time goes",
            (
                Panel(
                    "Time in a stage",
                    "s",
                    "One picture's time in each stage.",
                    quantiles("unclip_stage_seconds", "stage"),
                ),
                Panel(
                    "Queue wait",
                    "s",
                    "What rows waited for places.",
                    quantiles("ray_unclip_queue_wait_seconds", "application"),
                ),
                Panel(
                    "Step time",
                    "s",
                    "One step of one network.",
                    quantiles("ray_unclip_step_seconds", "network"),
                ),
            ),
        ),
        (
            "Engine",
            (
                Panel(
                    "Rows",
                    "short",
                    "Rows with a place and rows in the queue.",
                    (
                        Query("sum by (application) (ray_unclip_rows_running)", "{{application}} running"),
                        Query("sum by (application) (ray_unclip_rows_waiting)", "{{application}} waiting"),
                    ),
                ),
                Panel(
                    "Batch occupancy",
                    "percentunit",
                    "Rows of a step over the most it may have.",
                    (
                        Query(
                            f"sum by (network) (rate(ray_unclip_batch_occupancy_sum[{WINDOW}]))"
                            f" / sum by (network) (rate(ray_unclip_batch_occupancy_count[{WINDOW}]))",
                            "{{network}}",
                        ),
                    ),
                ),
                Panel(
                    "Row steps",
                    "ops",
                    "Steps a second, counted for each row.",
                    (Query(rate("ray_unclip_row_steps_total", "network"), "{{network}}"),),
                ),
                Panel(
                    "Rows that left",
                    "ops",
                    "Finished, cancelled, expired, failed; finished rows of the decoder are pictures.",
                    (
                        Query(
                            rate("ray_unclip_rows_ended_total", "application", "ending"),
                            "{{application}} {{ending}}",
                        ),
                    ),
                ),
                Panel(
                    "Refused on arrival",
                    "ops",
                    "Full queues and deadlines that could not be met.",
                    (
                        Query(
                            rate("ray_unclip_rows_refused_total", "application", "reason"),
                            "{{application}} {{reason}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
CAPACITY = Board(
    "capacity",
    "unclip / Scaling and capacity",
    (
        (
            "Replicas",
            (
                Panel(
                    "Replicas",
                    "short",
                    "Replicas of each stage that have loaded their model.",
                    (Query("count by (application) (ray_unclip_model_info)", "{{application}}"),),
                ),
                Panel(
                    "Load",
                    "percentunit",
                    "Rows running and waiting over places: what scaling follows.",
                    (
                        Query(
                            "(sum by (application) (ray_unclip_rows_running) + sum by (application) (ray_unclip_rows_waiting))"
                            " / sum by (application) (ray_unclip_places)",
                            "{{application}}",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Resources",
            (
                Panel(
                    "Pictures",
                    "ops",
                    "Pictures a second.",
                    (
                        Query(
                            f'sum(rate(ray_unclip_rows_ended_total{{application="decoder", ending="finished"}}[{WINDOW}]))',
                            "pictures",
                        ),
                    ),
                ),
                Panel(
                    "Device memory",
                    "bytes",
                    "What torch has allocated.",
                    (
                        Query(
                            "sum by (application, replica) (ray_unclip_device_memory_bytes)",
                            "{{application}} {{replica}}",
                        ),
                    ),
                ),
                Panel(
                    "Node CPU",
                    "percent",
                    "Of each Ray node.",
                    (Query("ray_node_cpu_utilization", "{{instance}}"),),
                ),
                Panel(
                    "Node memory",
                    "bytes",
                    "Used on each Ray node.",
                    (Query("ray_node_mem_used", "{{instance}}"),),
                ),
            ),
        ),
    ),
)
MODELS = Board(
    "models",
    "unclip / Models",
    (
        (
            "Versions",
            (
                Panel(
                    "Replicas by version",
                    "short",
                    "During a rollout two versions serve side by side.",
                    (
                        Query(
                            "count by (application, version) (ray_unclip_model_info)",
                            "{{application}} {{version}}",
                        ),
                    ),
                ),
                Panel(
                    "Gateways by version",
                    "short",
                    "What each gateway believes is served.",
                    (Query("count by (version) (unclip_gateway_model_info)", "{{version}}"),),
                ),
                Panel(
                    "Mismatch",
                    "short",
                    "1 while stages serve different versions.",
                    (Query("max(unclip_model_mismatch)", "mismatch"),),
                ),
                Panel(
                    "Load time",
                    "s",
                    "What loading and verifying a model took.",
                    (Query("max by (application) (ray_unclip_model_load_seconds)", "{{application}}"),),
                ),
            ),
        ),
    ),
)
BOARDS = (SERVICE, STAGES, CAPACITY, MODELS)


def build(board: Board) -> str:
    """The dashboard as Grafana's JSON."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"unclip-{board.name}")
        .tags(["unclip"])
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for heading, panels in board.rows:
        built = built.with_row(dashboard.Row(heading))
        for panel in panels:
            built = built.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _panel(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .min(0)
        .datasource(DATASOURCE)
        .height(8)
        .span(8)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
    )
    for query in panel.queries:
        built = built.with_target(
            prometheus.Dataquery().expr(query.expression).legend_format(query.legend).datasource(DATASOURCE)
        )
    return built


def main() -> None:
    """Write the dashboards, or with --check compare."""
    old = [board.name for board in BOARDS if not _is_fresh(board)]
    if "--check" in sys.argv[1:]:
        sys.exit(f"dashboards are not fresh (run `make dashboards`): {', '.join(old)}" if old else 0)
    TARGET.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (TARGET / f"{board.name}.json").write_text(build(board))


def _is_fresh(board: Board) -> bool:
    file = TARGET / f"{board.name}.json"
    return file.exists() and file.read_text() == build(board)


if __name__ == "__main__":
    main()
