"""Grafana's dashboards: ``python -m deploy.monitoring.dashboards [--check]``.

It writes them into the chart as JSON. With --check it compares them with what is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from deploy.monitoring.panels import Board, Panel
from deploy.monitoring.service_board import SERVICE
from deploy.monitoring.stage_boards import CAPACITY, MODELS, STAGES

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "deploy/chart/dashboards"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
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
    for row in board.rows:
        built = built.with_row(dashboard.Row(row.heading))
        for panel in row.panels:
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
    """Write the dashboards. With --check, exit with an error if the files are not what would be written."""
    if "--check" in sys.argv[1:]:
        stale = [board.name for board in BOARDS if not _is_fresh(board)]
        sys.exit(f"dashboards are not fresh (run `make dashboards`): {', '.join(stale)}" if stale else 0)
    TARGET.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (TARGET / f"{board.name}.json").write_text(build(board))


def _is_fresh(board: Board) -> bool:
    file = TARGET / f"{board.name}.json"
    return file.exists() and file.read_text() == build(board)


if __name__ == "__main__":
    main()
