"""Disks that are full or read-only, clocks that jump, names that are not found: told, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from click.testing import CliRunner

from deploy.local.ports import free_port
from gateway.cli.commands import main
from gateway.http import store
from gateway.settings import Settings
from gateway.tokens import new_token, read_tokens, write_tokens
from services.bundles.bundle import ROOT
from tests.fakes.stages import FakeStages, addresses_of, serve_fake_stages
from tests.gateway.conftest import FOX, fronting, refusal, until
from tests.gateway.test_cli import unclip
from tests.http.conftest import serving_http
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

DAY = 86400.0
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of the test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave no room on it."""
    with contextlib.suppress(OSError), (disk / "full").open("wb", buffering=0) as file:
        while file.write(bytes(512)):
            pass


def make_read_only(disk: Path) -> None:
    """Let nobody write on it."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


spoils = pytest.mark.parametrize("spoil", [fill, make_read_only])


@spoils
async def test_pictures_that_cannot_be_kept_are_told_and_can_be_had_inline(
    disk: Path, spoil: Callable[[Path], None]
) -> None:
    async with serving_http(picture_store=f"file://{disk}") as api:
        spoil(disk)
        body = {"prompt": "a fox"}
        answer = await api.http.post("/v1/images/generations", json=body)
        assert answer.status_code == 503
        assert "b64_json" in answer.json()["error"]["message"]
        assert str(disk) not in answer.text
        inline = await api.http.post("/v1/images/generations", json={**body, "response_format": "b64_json"})
        assert inline.status_code == 200


@spoils
async def test_the_command_line_says_so_and_leaves_no_half_picture(
    disk: Path, spoil: Callable[[Path], None]
) -> None:
    async with fronting(FakeStages()) as front:
        assert (await unclip(front, disk, "generate", "a fox", "-o", "fox.webp"))[0] == 0
        before = (disk / "fox.webp").read_bytes()
        spoil(disk)
        code, said = await unclip(front, disk, "generate", "a fox", "-o", "fox.webp")
        assert code == 1
        assert "cannot be written" in said
        assert "Traceback" not in said
        assert (disk / "fox.webp").read_bytes() == before
        assert {file.name for file in disk.iterdir()} <= {"fox.webp", "full"}


async def test_what_cannot_be_written_is_told_before_anything_is_drawn(disk: Path) -> None:
    stages = FakeStages()
    async with fronting(stages) as front:
        make_read_only(disk)
        for path in ("fox.png", "deeper/fox.png"):
            code, said = await unclip(front, disk, "generate", "a fox", "-o", path)
            assert code == 1
            assert "cannot be" in said
        assert not stages.tasks


@spoils
def test_a_list_of_tokens_stays_whole(disk: Path, spoil: Callable[[Path], None]) -> None:
    path = disk / "tokens.json"
    write_tokens(path, [new_token("first", "acme", ("generate",), None)[0]])
    spoil(disk)
    result = CliRunner().invoke(
        main, ["token", "create", "second", "--tenant", "a", "--scope", "edit", "--file", str(path)]
    )
    assert result.exit_code != 0
    assert "Error" in result.output
    assert [token.name for token in read_tokens(path)] == ["first"]
    assert {file.name for file in disk.iterdir()} <= {"tokens.json", ".tokens.json.lock", "full"}


async def test_a_log_that_takes_nothing_stops_no_gateway() -> None:
    async with serve_fake_stages(FakeStages()) as address:
        settings = Settings(port=free_port(), **addresses_of(address))
        environment = {**os.environ, **settings.environment()}
        command = [sys.executable, "-m", "gateway.server"]
        with (
            Path("/dev/full").open("wb") as full,
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=full, stderr=full) as process,
        ):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}") as channel:
                stub = image_service_pb2_grpc.ImageServiceStub(channel)
                for _ in range(3):
                    assert (await stub.Generate(FOX, timeout=60, wait_for_ready=True)).pictures
            process.terminate()
            assert await asyncio.to_thread(process.wait, 30) == 0


@contextlib.asynccontextmanager
async def with_a_clock(
    folder: Path, stages: FakeStages, **settings: Any
) -> AsyncIterator[tuple[Any, Callable[[float], None]]]:
    """A gateway in a process of its own, and what sets its clock by so many seconds.

    Its monotonic clock goes on, as a machine's does.
    """
    if not FAKETIME.exists():
        pytest.skip("libfaketime is not here")
    clock = folder / "clock"
    clock.write_text("+0")
    async with serve_fake_stages(stages) as address:
        chosen = Settings(port=free_port(), **addresses_of(address), **settings)
        faked = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": clock, "FAKETIME_NO_CACHE": "1"}
        environment = {**os.environ, **chosen.environment(), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        environment |= {name: str(value) for name, value in faked.items()}
        command = [sys.executable, "-m", "gateway.server"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{chosen.port}") as channel:
                    stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
                    await stub.ListModels(pb.ListModelsRequest(), timeout=60, wait_for_ready=True)
                    yield stub, partial(_set, clock)
                process.terminate()
                assert await asyncio.to_thread(process.wait, 30) == 0
            finally:
                process.kill()


def _set(clock: Path, seconds: float) -> None:
    clock.write_text(f"{seconds:+.0f}")


@pytest.mark.parametrize("seconds", [-DAY, DAY])
async def test_a_clock_that_jumps_ends_no_request(tmp_path: Path, seconds: float) -> None:
    stages = FakeStages(delay=1.0)
    async with with_a_clock(tmp_path, stages) as (images, jump):
        held = asyncio.ensure_future(images.Generate(FOX, timeout=20))
        await until(lambda: bool(stages.tasks))
        jump(seconds)
        assert (await held).pictures
        assert (await images.Generate(FOX, timeout=20)).pictures


async def test_a_clock_that_is_set_back_makes_no_minute_longer(tmp_path: Path) -> None:
    async with with_a_clock(tmp_path, FakeStages(), quotas={"*": {"pictures": 1}}) as (images, jump):
        for seconds in (0, -DAY, 0):
            jump(seconds)
            assert (await images.Generate(FOX)).pictures
            assert (await refusal(images.Generate(FOX))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_pictures_that_a_jump_made_old_are_gone_and_new_ones_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = store.Memory(100)
    name = store.new_name("png")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + DAY)
    await memory.put(name, b"old")  # given a name before the jump
    assert await memory.get(name) is None
    later = store.new_name("png")
    await memory.put(later, b"new")
    assert await memory.get(later) == b"new"


async def test_stages_whose_names_are_not_found_are_told_of() -> None:
    async with fronting(FakeStages(), **addresses_of("stages.invalid:9000")) as front:
        error = await refusal(front.images.Generate(FOX, timeout=20))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "invalid" not in (error.details() or "")
