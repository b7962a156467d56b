"""What dashboards are made of: boards, rows, panels, and queries in PromQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

WINDOW = "$__rate_interval"  # Grafana chooses it: the shortest that has enough samples for a rate


@dataclass(frozen=True)
class Query:
    """An expression in PromQL. legend: what its series are called; {{label}} stands for a label's value."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph. unit: Grafana's name of it. description: what the graph tells an operator."""

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    heading: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard. name: of its file and its address in Grafana."""

    name: str
    title: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> Iterator[Panel]:
        """The panels of all rows."""
        return (panel for row in self.rows for panel in row.panels)


def rate(metric: str, *by: str) -> str:
    """Events a second of a counter, summed over all labels but ``by``."""
    return f"sum by ({', '.join(by)}) (rate({metric}[{WINDOW}]))"


def quantile(share: float, metric: str, *by: str) -> str:
    """A quantile of a histogram, for each value of the labels ``by``."""
    return f"histogram_quantile({share}, sum by ({', '.join(('le', *by))}) (rate({metric}_bucket[{WINDOW}])))"


def quantiles(metric: str, *by: str) -> tuple[Query, ...]:
    """The median and the 95th percentile of a histogram."""
    name = " ".join(f"{{{{{label}}}}}" for label in by)
    return tuple(
        Query(quantile(share, metric, *by), f"{name} p{round(100 * share)}".strip()) for share in (0.5, 0.95)
    )
