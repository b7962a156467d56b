"""The same request and seed give the same bits, alone and among 200 others of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from PIL import Image

from tests.pictures import drawn
from tests.stack.conftest import png_of, quick
from unclip.v1 import image_service_pb2 as pb

NEIGHBOURS = 200
AT_A_TIME = 12
OURS = pb.GenerateRequest(
    prompt="a fox on a sandy beach",
    size=64,
    options=quick(seed=11, prior_candidates=2, prior_guidance=2.0, decoder_guidance=2.5),
)


def neighbour(rng: random.Random) -> tuple[str, Any]:
    """A method and a request of any kind."""
    options = quick(
        seed=rng.getrandbits(60),
        prior_candidates=rng.randint(1, 4),
        prior_steps=rng.randint(1, 5),
        prior_guidance=rng.choice((0.0, 1.0, 2.0, 4.5)),
        decoder_steps=rng.randint(1, 6),
        decoder_guidance=rng.choice((0.0, 1.0, 3.0, 7.5)),
        upsampler_steps=rng.randint(1, 2),
    )
    prompt = " ".join(rng.sample(("two", "owls", "snow", "castle", "a red", "ship", "evening", "zebra"), 4))
    picture = png_of(Image.new("RGB", (80, 64), rng.choice(("teal", "navy", "khaki"))))
    size = rng.choice((64, 64, 64, 256))
    kind = rng.choice(("Generate", "Generate", "Vary", "Outpaint"))
    requests: dict[str, Any] = {
        "Generate": pb.GenerateRequest(prompt=prompt, size=size, options=options),
        "Vary": pb.VaryRequest(picture=picture, size=size, options=options),
        "Outpaint": pb.OutpaintRequest(
            picture=picture, prompt=prompt, margins=pb.Margins(left=rng.randint(1, 40)), options=options
        ),
    }
    return kind, requests[kind]


async def test_a_picture_has_the_same_bits_alone_and_among_200_neighbours(images: Any) -> None:
    alone = (await images.Generate(OURS)).pictures[0].data

    rng = random.Random(5)
    places = asyncio.Semaphore(AT_A_TIME)
    finished = 0

    async def send(kind: str, request: Any) -> None:
        nonlocal finished
        async with places:
            await getattr(images, kind)(request, timeout=300)
            finished += 1

    among: list[bytes] = []
    neighbours = [asyncio.ensure_future(send(*neighbour(rng))) for _ in range(NEIGHBOURS)]
    while not all(task.done() for task in neighbours):
        among.append((await images.Generate(OURS, timeout=300)).pictures[0].data)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.gather(*neighbours)), 0.5)
    await asyncio.gather(*neighbours)
    assert finished == NEIGHBOURS
    assert len(among) > 5
    assert {drawn(data) for data in among} == {drawn(alone)}
