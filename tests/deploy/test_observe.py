"""The running stack under a real Prometheus and a short load.

Every panel has data, every rule is evaluated.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.ports import free_port
from deploy.monitoring.dashboards import BOARDS
from services.bundles.bundle import ROOT

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's prometheus is not installed"),
]


def test_every_panel_has_data_and_every_rule_is_evaluated(tmp_path: Path) -> None:
    ports = {name: str(free_port()) for name in ("UNCLIP_PORT", "STACK_GRPC_PORT", "STACK_HTTP_PORT")}
    load = [sys.executable, "-m", "deploy.monitoring.load", "--seconds", "90", "--size", "64", "--steps", "4"]
    command = [sys.executable, "-m", "deploy.monitoring.observe", "--out", str(tmp_path), "--", *load]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **ports, "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert result.returncode == 0, result.stderr
    assert "without data" not in result.stderr, result.stderr
    assert "rules that could not be evaluated: none" in result.stderr
    assert "alerts that fire: none" in result.stderr
    assert {file.name for file in tmp_path.iterdir()} == {f"{board.name}.png" for board in BOARDS}
