"""Dashboards and alerts.

Fresh, in the chart, understood by Prometheus' own tool, and each with a section for operators.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.monitoring.dashboards import BOARDS, build
from services.bundles.bundle import ROOT
from services.wire.stages import STAGES
from tests.deploy.conftest import CHART, Helm

RULES = CHART / "rules/unclip.yaml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool (Debian's prometheus) is not installed"
)


def promtool(*arguments: str | Path) -> None:
    assert PROMTOOL is not None
    result = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_the_rules_are_valid() -> None:
    promtool("check", "rules", RULES)


@needs_promtool
def test_alerts_fire_on_their_faults_and_are_silent_otherwise() -> None:
    promtool("test", "rules", Path(__file__).with_name("alerts.yaml"))


@needs_promtool
def test_every_query_of_every_panel_is_promql(tmp_path: Path) -> None:
    expressions = [
        q.expression.replace("$__rate_interval", "1m")
        for board in BOARDS
        for panel in board.panels
        for q in panel.queries
    ]
    rules = [{"record": f"panel:{i}", "expr": expression} for i, expression in enumerate(expressions)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "panels.yaml")


def test_dashboards_are_what_the_code_says() -> None:
    for board in BOARDS:
        assert (CHART / f"dashboards/{board.name}.json").read_text() == build(board)


def test_every_metric_of_panels_and_alerts_is_documented() -> None:
    documented = set(re.findall(r"`((?:ray_)?unclip_[a-z_]+)`", (ROOT / "docs/metrics.md").read_text()))
    text = RULES.read_text() + " ".join(
        q.expression for board in BOARDS for panel in board.panels for q in panel.queries
    )
    used = {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\b(?:ray_)?unclip_[a-z_]+", text)
    }
    assert used <= documented, used - documented


def test_every_alert_has_its_runbook() -> None:
    headings = {
        h.lower().replace(" ", "-")
        for h in re.findall(r"^#+ (.+)$", (ROOT / "docs/operators.md").read_text(), flags=re.MULTILINE)
    }
    alerts = [
        rule
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert len(alerts) >= 8
    for rule in alerts:
        file, anchor = rule["annotations"]["runbook"].split("#")
        assert file == "docs/operators.md"
        assert anchor in headings, rule["alert"]


def test_the_chart_carries_rules_dashboards_and_monitors(helm: Helm) -> None:
    objects = helm.objects("values-production.yaml")
    rules = next(o for o in objects if o["kind"] == "PrometheusRule")
    carried_rules = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    written = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    names = [rule.get("alert", rule.get("record")) for rule in written]
    assert [rule.get("alert", rule.get("record")) for rule in carried_rules] == names
    monitor = next(o for o in objects if o["kind"] == "PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    carried = [
        o["data"]
        for o in objects
        if o["kind"] == "ConfigMap" and o["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    assert {json.loads(next(iter(data.values())))["title"] for data in carried} == {
        board.title for board in BOARDS
    }


@pytest.mark.parametrize(
    ("values", "watched"),
    [
        ([], {"text_encoder", "image_encoder", "prior", "decoder"}),
        (
            ["stages.prior.address=prior.elsewhere:9000", "stages.decoder.replicas.min=0"],
            {"text_encoder", "image_encoder"},
        ),
        ([f"stages.{stage}.replicas.min=0" for stage in STAGES], set()),
    ],
)
def test_only_stages_that_always_have_a_replica_here_are_missed(
    helm: Helm, values: list[str], watched: set[str]
) -> None:
    given = [argument for value in ("monitoring.rules=true", *values) for argument in ("--set", value)]
    objects = helm.objects("values.yaml", *given)
    rules = next(o for o in objects if o["kind"] == "PrometheusRule")["spec"]["groups"]
    alerts = [rule for group in rules for rule in group["rules"] if rule.get("alert") == "UnclipStageAbsent"]
    assert {name for rule in alerts for name in re.findall(r'application="(\w+)"', rule["expr"])} == watched


def test_two_releases_do_not_meet(helm: Helm) -> None:
    """Dashboards, records and alerts of one release name it, and count nothing of another's."""
    objects = [helm.objects("values-production.yaml", release=name) for name in ("one", "two")]
    uids = []
    for name, rendered in zip(("one", "two"), objects, strict=True):
        boards = [
            o for o in rendered if o["kind"] == "ConfigMap" and "grafana_dashboard" in o["metadata"]["labels"]
        ]
        uids += [json.loads(text)["uid"] for board in boards for text in board["data"].values()]
        rules = next(o for o in rendered if o["kind"] == "PrometheusRule")["spec"]["groups"]
        for rule in (rule for group in rules for rule in group["rules"]):
            assert rule["labels"]["release"] == name
            assert 'release=~".*"' not in rule["expr"]
            assert f'release="{name}"' in rule["expr"]
    assert len(set(uids)) == len(uids)
