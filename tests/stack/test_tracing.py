"""One trace through the gateway and all four stages, with what each request had of the engines."""

from __future__ import annotations

import asyncio
from typing import Any

from PIL import Image

from tests.fakes.otlp_receiver import Receiver
from tests.stack.conftest import png_of, quick
from unclip.v1 import image_service_pb2 as pb

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)


async def test_a_trace_goes_through_all_four_stages(images: Any, receiver: Receiver) -> None:
    picture = png_of(Image.new("RGB", (64, 64), "red"))
    await images.Generate(
        pb.GenerateRequest(prompt="a teapot in space", size=64, options=quick()), metadata=PARENT
    )
    await images.RankCaptions(
        pb.RankCaptionsRequest(picture=picture, captions=["red", "blue"]), metadata=PARENT
    )
    # The gateway's two, five of its calls, and five of the stages.
    spans = await asyncio.to_thread(receiver.of_trace, TRACE, 12)
    calls = {s.span_id: s.name for s in spans if s.service == "unclip-gateway"}
    stages = {(s.service, calls[s.parent_id]) for s in spans if s.service != "unclip-gateway"}
    assert stages == {
        (f"unclip-{name.replace('_', '-')}", name)
        for name in ("text_encoder", "image_encoder", "prior", "decoder")
    }
    decoder = next(s.attributes for s in spans if s.service == "unclip-decoder")
    assert (decoder["unclip.ending"], decoder["unclip.rows"], decoder["unclip.steps"]) == ("finished", 1, 4)
    assert 0 < decoder["unclip.batch_occupancy"] <= 1
    assert decoder["unclip.queue_wait_seconds"] >= 0
