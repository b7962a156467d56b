"""The Python client against a real gateway."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from services.wire.errors import Overloaded
from tests.fakes.stages import FakeStages, load_of
from tests.gateway.conftest import Front, fronting, png_of, until
from tests.gateway.test_contract import noise
from unclip_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    Margins,
    Picture,
    Preview,
    Progress,
    ServiceFull,
    Unavailable,
    UnclipError,
    requests,
)


def address(front: Front) -> str:
    return f"127.0.0.1:{front.gateway.port}"


@pytest.fixture
async def client(front: Front) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(address(front)) as found:
        yield found


async def test_every_flow(client: AsyncClient, tmp_path: Path) -> None:
    pictures = await client.generate("a fox", n=2, seed=7, size=64, format="webp")
    assert [(p.index, p.seed, p.width) for p in pictures] == [(0, 7, 64), (1, 8, 64)]
    assert pictures[0].image.format == "WEBP"
    pictures[0].save(tmp_path / "fox.webp")
    picture = Image.fromarray(noise(64, 64))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    assert (await client.inpaint(picture, "an owl", mask=mask))[0].image.size == (64, 64)
    assert (await client.outpaint(picture, "a fox", Margins(left=8)))[0].width == 72
    assert await client.vary(tmp_path / "fox.webp", similarity=0.5, change=("a fox", "an owl"))
    assert await client.mix([picture, "in the snow"], weights=[0.6, 0.4], size=64)
    assert len(await client.interpolate("a fox", png_of(picture), frames=3, size=64)) == 3
    ranked = await client.rank(picture, ["a fox", "an owl"])
    assert sum(r.probability for r in ranked) == pytest.approx(1)
    assert len(await client.embed_text("a fox")) == len(await client.embed_image(picture))
    assert (await client.model()).sizes


async def test_what_happens_on_the_way(client: AsyncClient) -> None:
    request = requests.generate("a fox", 64, {"decoder_steps": 4, "preview_interval": 2})
    events = [event async for event in client.stream(request)]
    assert any(isinstance(event, Progress) and event.stage == "prior" for event in events)
    assert any(isinstance(event, Preview) for event in events)
    assert isinstance(events[-1], Picture)


async def test_the_blocking_client_does_the_same(front: Front) -> None:
    def work() -> list[Picture]:
        with Client(address(front)) as client:
            assert client.rank(png_of(noise(8, 8)), ["a", "b"])
            return client.generate("a fox", seed=7, size=64)

    made = await asyncio.to_thread(work)
    assert [picture.seed for picture in made] == [7]


async def test_errors_by_status() -> None:
    async with fronting(FakeStages()) as front, AsyncClient(address(front), wait=False) as client:
        with pytest.raises(InvalidRequest) as invalid:
            await client.generate(" ", n=99)
        assert {"prompt", "options.n"} <= set(invalid.value.fields)
    stages = FakeStages(refusal=Overloaded("full", 3), down={"image_encoder"})
    async with fronting(stages) as front, AsyncClient(address(front), wait=False) as client:
        with pytest.raises(ServiceFull) as full:
            await client.generate("a fox")
        assert (full.value.retry_after, full.value.refused_by) == (3, "decoder")
        with pytest.raises(Unavailable, match="image encoder"):
            await client.embed_image(png_of(noise(8, 8)))
        stages.delay = 30
        with pytest.raises(DeadlineExceeded):
            await client.generate("a fox", timeout=0.3)
    async with AsyncClient("127.0.0.1:1", wait=False) as client:
        with pytest.raises(Unavailable, match="nothing answers"):
            await client.model()


async def test_a_full_service_is_waited_for_and_said_so() -> None:
    stages = FakeStages(load=load_of(backlog=3.0, seconds=0.1))
    told: list[float] = []

    def waiting(error: UnclipError, delay: float) -> None:
        assert isinstance(error, ServiceFull)
        told.append(delay)
        stages.load = load_of()

    async with (
        fronting(stages, look_interval=0.1) as front,
        AsyncClient(address(front), timeout=4, on_wait=waiting) as client,
    ):
        await client.model()
        assert await client.generate("a fox")
        assert told


async def test_leaving_a_stream_cancels_its_work() -> None:
    stages = FakeStages(step_seconds=0.05, default_steps=100)
    async with fronting(stages) as front, AsyncClient(address(front)) as client:
        events = client.stream(requests.generate("a fox", 64, {}))
        async for event in events:
            if isinstance(event, Progress) and event.stage == "decoder":
                break
        await events.aclose()  # type: ignore[attr-defined]
        await until(lambda: stages.sampling == 0)


def test_both_clients_have_the_same_methods() -> None:
    def parameters(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert parameters(Client) == parameters(AsyncClient)
