"""The real stack, as ``make serve`` runs it: the shipped bundle, and beside it an imported one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from PIL import Image

from deploy.local.ports import free_port, require_free
from services.bundles.bundle import ROOT
from tests.fakes.otlp_receiver import Receiver, receiving
from tests.importing.checkpoints import kandinsky_decoder, kandinsky_prior, seeded
from unclip.internal.v1 import sampling_pb2, stage_service_pb2, stage_service_pb2_grpc
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass(frozen=True)
class Addresses:
    gateway: str
    stages: str
    http: str


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """Where the stack sends its spans."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of Kandinsky's repositories: in their real layout, but narrow, with random weights."""
    folder = tmp_path_factory.mktemp("kandinsky")
    seeded()
    kandinsky_prior(folder / "prior")
    kandinsky_decoder(folder / "decoder")
    kandinsky_decoder(folder / "inpaint", in_channels=9)
    repositories = [str(folder / name) for name in ("decoder", "inpaint", "prior")]
    command = [sys.executable, "-m", "gateway.cli", "model", "import", *repositories, str(folder / "bundle")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


@pytest.fixture(scope="session")
def stack(receiver: Receiver, imported: Path) -> Iterator[Addresses]:
    """``python -m deploy.local`` on free ports, until it says that it is ready."""
    gateway, serve, ray, http = free_port(), free_port(), free_port(), free_port()
    environment = {
        "UNCLIP_PORT": str(gateway),
        "STACK_GRPC_PORT": str(serve),
        "STACK_HTTP_PORT": str(ray),
        "UNCLIP_HTTP_PORT": str(http),
        "STACK_TIMEOUT": "480",
    }
    environment |= receiver.environment
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.local", "--model", "models", "--model", str(imported)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        else:
            pytest.fail("the stack did not start:\n" + "".join(lines))
        # Keep reading: a full pipe would block the stack.
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        try:
            yield Addresses(f"127.0.0.1:{gateway}", f"127.0.0.1:{serve}", f"http://127.0.0.1:{http}")
            # make forwards a signal, and a person presses Ctrl-C twice: the clean-up goes on all the same.
            for _ in range(3):  # not SIGINT, which is ignored by all that a shell's background job starts
                process.terminate()
                time.sleep(0.3)
            assert process.wait(90) == 0
            require_free(gateway, "UNCLIP_PORT")
        finally:
            process.kill()
        reader.join()


@pytest.fixture(scope="session")
async def images(stack: Addresses) -> AsyncIterator[Any]:
    """A stub of the public service."""
    async with grpc.aio.insecure_channel(stack.gateway, options=OPTIONS) as channel:
        yield image_service_pb2_grpc.ImageServiceStub(channel)


class StageInfo:
    """What a stage says of itself."""

    def __init__(self, channel: grpc.aio.Channel, stage: str) -> None:
        self._stub: Any = stage_service_pb2_grpc.StageServiceStub(channel)
        self._metadata = (("application", stage),)

    async def load(self) -> sampling_pb2.EngineLoad:
        response = await self._stub.Describe(
            stage_service_pb2.DescribeRequest(), metadata=self._metadata, timeout=30
        )
        load: sampling_pb2.EngineLoad = response.load
        return load


@pytest.fixture(scope="session")
async def decoder(stack: Addresses) -> AsyncIterator[StageInfo]:
    async with grpc.aio.insecure_channel(stack.stages) as channel:
        yield StageInfo(channel, "decoder")


@pytest.fixture(scope="session")
async def prior(stack: Addresses) -> AsyncIterator[StageInfo]:
    async with grpc.aio.insecure_channel(stack.stages) as channel:
        yield StageInfo(channel, "prior")


def quick(**given: Any) -> pb.SamplingOptions:
    """Few steps: what is tested is the path, not the picture."""
    options = {"seed": 7, "prior_steps": 4, "decoder_steps": 4, "upsampler_steps": 2, "prior_candidates": 1}
    return pb.SamplingOptions(**{**options, **given})


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def png_of(picture: Image.Image | np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, kind)
    return stream.getvalue()
