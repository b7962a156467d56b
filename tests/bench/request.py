"""What a request costs, by stage; and what the gateway and the hops add, by stages that do nothing."""

from __future__ import annotations

import time
from typing import Any

import grpc.aio

from gateway.server import Gateway
from gateway.settings import Settings
from tests.fakes.stages import serve_fake_stages
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc

PROMPT = "a red apple on a wooden table"
PICTURE_BYTES = 90_000  # of a PNG of 256 px
Figures = dict[str, list[float]]


async def generate(address: str, repeats: int, n: int) -> Figures:
    """Seconds of whole requests and of their stages, by name, at one gateway.

    One request first to warm up.
    """
    seconds: Figures = {}
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        stub: Any = image_service_pb2_grpc.ImageServiceStub(channel)
        for i in range(repeats + 1):
            started = time.perf_counter()
            response = await stub.Generate(
                pb.GenerateRequest(prompt=PROMPT, options=pb.SamplingOptions(seed=i, n=n))
            )
            whole = time.perf_counter() - started
            if i:
                seconds.setdefault("request", []).append(whole)
                for stage in response.pictures[0].stage_times:
                    name = pb.Stage.Name(stage.stage).removeprefix("STAGE_").lower()
                    seconds.setdefault(name, []).append(stage.duration.ToNanoseconds() / 1e9)
    return seconds


async def _answer(request: Any, context: Any) -> pb.GenerateResponse:
    return pb.GenerateResponse(pictures=[pb.Picture(data=bytes(PICTURE_BYTES))])


async def plain(repeats: int) -> Figures:
    """The same of grpc.aio by itself, in this process: the least that a service over gRPC can cost."""
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        _answer, pb.GenerateRequest.FromString, pb.GenerateResponse.SerializeToString
    )
    handlers = grpc.method_handlers_generic_handler("unclip.v1.ImageService", {"Generate": method})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return await generate(f"127.0.0.1:{port}", repeats, 1)
    finally:
        await server.stop(None)


async def overhead(repeats: int) -> Figures:
    """The same against stages that answer at once: what is left is the gateway, the hops and the PNG."""
    async with serve_fake_stages() as address:
        addresses: dict[str, Any] = {
            f"{stage}_address": address for stage in ("text_encoder", "image_encoder", "prior", "decoder")
        }
        gateway = Gateway(Settings(port=0, **addresses))
        await gateway.start()
        try:
            return await generate(f"127.0.0.1:{gateway.port}", repeats, 1)
        finally:
            await gateway.stop(0)
