"""The gateway's process.

Spans at a real OTLP receiver, and log lines with request and trace id but without prompts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest

from deploy.local.ports import free_port
from services.bundles.bundle import ROOT
from tests.fakes.otlp_receiver import Receiver, receiving
from tests.fakes.stages import FakeStages, serve_fake_stages
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

STAGES = ("text_encoder", "image_encoder", "prior", "decoder")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
PARENT = (("traceparent", f"00-{TRACE}-{CALLER}-01"),)
SECRET = "a prompt that nobody else may read"


@dataclass
class Process:
    images: Any
    receiver: Receiver
    stages: FakeStages
    lines: list[dict[str, Any]]


@asynccontextmanager
async def gateway_process(**environment: str) -> AsyncIterator[Process]:
    """``python -m gateway.server`` in front of stages that do nothing.

    Its log is there when the block has ended.
    """
    port, stages = free_port(), FakeStages()
    with receiving() as receiver:
        async with serve_fake_stages(stages) as address:
            addresses = {f"UNCLIP_{stage.upper()}_ADDRESS": address for stage in STAGES}
            own = {
                "UNCLIP_PORT": str(port),
                "UNCLIP_LOG_FORMAT": "json",
                **addresses,
                **receiver.environment,
                **environment,
            }
            command = [sys.executable, "-m", "gateway.server"]
            with subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True
            ) as process:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    await asyncio.wait_for(channel.channel_ready(), 60)
                    found = Process(image_service_pb2_grpc.ImageServiceStub(channel), receiver, stages, [])
                    try:
                        yield found
                    finally:
                        process.send_signal(signal.SIGTERM)
                _, log = await asyncio.to_thread(process.communicate, timeout=60)
                found.lines.extend(json.loads(line) for line in log.splitlines())


async def test_a_request_is_one_trace_with_a_span_for_each_stage() -> None:
    async with gateway_process() as process:
        request = pb.GenerateRequest(prompt=SECRET, request_id="order 66")
        await process.images.Generate(request, metadata=PARENT, wait_for_ready=True)
        spans = await asyncio.to_thread(process.receiver.of_trace, TRACE, 4)
        root = next(s for s in spans if s.name == "generate")
        assert (root.service, root.parent_id.hex()) == ("unclip-gateway", CALLER)
        assert root.attributes["unclip.request_id"] == "order 66"
        assert {s.name for s in spans if s.parent_id == root.span_id} == {"text_encoder", "prior", "decoder"}
        assert not any(s.failed for s in spans)
        assert SECRET not in str(spans)
    line = next(line for line in process.lines if line["message"] == "generate ok")
    assert (line["request_id"], line["trace_id"], line["flow"], line["status"], line["level"]) == (
        *("order 66", TRACE, "generate", "ok"),
        "INFO",
    )
    assert SECRET not in str(process.lines)


async def test_a_refusal_is_a_failed_span_and_a_line() -> None:
    async with gateway_process(UNCLIP_LOG_PROMPTS="true") as process:
        stream = process.images.Stream(
            pb.StreamRequest(generate=pb.GenerateRequest(prompt=SECRET, size=5000)), metadata=PARENT
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
        spans = await asyncio.to_thread(process.receiver.of_trace, TRACE, 1)
        assert [(s.name, s.failed, s.attributes["rpc.grpc.status"]) for s in spans] == [
            ("generate", True, "invalid_argument")
        ]
    line = next(line for line in process.lines if line["message"] == "generate invalid_argument")
    assert line["prompt"] == SECRET  # asked for here


async def test_the_context_goes_on_to_the_stages_without_an_exporter() -> None:
    off = {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    async with gateway_process(**off) as process:
        await process.images.Generate(pb.GenerateRequest(prompt="a fox"), metadata=PARENT)
        assert not process.receiver.spans
        assert [t.split("-")[1] for t in process.stages.traceparents] == [TRACE]
    assert next(line for line in process.lines if line["message"] == "generate ok")["trace_id"] == TRACE
