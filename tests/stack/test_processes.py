"""The processes of the local stack."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

import psutil
import pytest

from services.wire.stages import STAGES
from tests.stack.conftest import Addresses


@pytest.mark.skipif(sys.platform != "linux", reason="no forks elsewhere")
def test_replicas_are_forks_of_one_server_and_share_what_it_imported(stack: Addresses) -> None:
    replicas = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("ray::ServeReplica" in word for word in process.cmdline()):
                replicas.append(process)
    assert len(replicas) >= len(STAGES)
    (server,) = {replica.ppid() for replica in replicas}
    assert "deploy.local.fork_server" in psutil.Process(server).cmdline()
    for replica in replicas:
        memory = Path(f"/proc/{replica.pid}/smaps_rollup").read_text()
        (shared,) = re.findall(r"Shared_Dirty: +(\d+) kB", memory)
        assert int(shared) > 150 * 1024
