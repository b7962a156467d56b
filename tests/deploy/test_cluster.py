"""The local stack when Ray itself does not start."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from deploy.local.cluster import cluster_running, serve_config
from deploy.local.ports import free_port
from deploy.local.settings import StackError, StackSettings
from services.wire.stages import STAGES


def test_a_ray_that_does_not_start_is_told_and_not_started_again_to_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[Any] = []

    def refuse(**options: Any) -> None:
        starts.append(options)
        raise RuntimeError("no room for its object store")

    monkeypatch.setattr(ray, "init", refuse)
    settings = StackSettings(grpc_port=free_port(), http_port=free_port())
    with (
        pytest.raises(StackError, match=r"Ray does not start: no room for its object store"),
        cluster_running(serve_config(STAGES, settings), settings),
    ):
        pass
    assert len(starts) == 1
