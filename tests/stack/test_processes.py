"""The processes of the local stack."""

from __future__ import annotations

import sys

import psutil
import pytest

from services.wire.stages import STAGES
from tests.stack.conftest import Addresses


@pytest.mark.skipif(sys.platform != "linux", reason="no forks elsewhere")
def test_replicas_are_forks_of_one_server_and_share_what_it_imported(stack: Addresses) -> None:
    processes = psutil.Process().children(recursive=True)
    (server,) = (p.pid for p in processes if "deploy.local.fork_server" in p.cmdline())
    replicas = [p for p in processes if any("ray::ServeReplica" in word for word in p.cmdline())]
    assert len(replicas) >= len(STAGES)
    assert {p.ppid() for p in replicas} == {server}
    for replica in replicas:
        memory = replica.memory_full_info()
        assert memory.rss - memory.uss > 150 * 2**20
