"""API tokens: who is let in, and what they may do, over gRPC; the file, and the commands that make it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.callers import SCOPES, Scope
from gateway.failures import Failures
from gateway.settings import SHIPPED
from gateway.tokens import Authenticator, Token, changing, new_token, read_tokens, write_tokens
from services.wire.errors import Unauthenticated
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import Front, fronting, png_of, refusal
from tests.gateway.test_cli import unclip
from tests.gateway.test_contract import noise
from unclip.v1 import image_service_pb2 as pb

FOX = pb.GenerateRequest(prompt="a fox", size=64)


def made(scopes: Sequence[Scope], name: str = "shop", days: int | None = None) -> tuple[Token, str]:
    expires = None if days is None else datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    return new_token(name, "acme", scopes, expires)


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


async def refused(call: grpc.aio.Call | object) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call  # type: ignore[misc]
    assert "Bearer" not in str(failure.value.details())
    return failure.value.code()


async def test_only_those_with_a_token_are_let_in(tmp_path: Path) -> None:
    (good, text), (old, old_text) = made(["generate"]), made(["generate"], "old", days=-1)
    write_tokens(tmp_path / "tokens.json", [good, old])
    stages = FakeStages()
    async with fronting(stages, tokens=str(tmp_path / "tokens.json")) as front:
        generate = front.images.Generate
        assert (await generate(FOX, metadata=bearer(text))).pictures
        forged = [text[:-1] + ("a" if text[-1] != "a" else "b"), text.replace(good.id, old.id), old_text]
        forged += ["", "none", "unclip_", f"unclip_{good.id}_", f"unclip_{'0' * 16}_{text.split('_')[2]}"]
        for wrong in forged:
            status = await refused(generate(FOX, metadata=bearer(wrong)))
            assert status is grpc.StatusCode.UNAUTHENTICATED, wrong
        assert await refused(generate(FOX)) is grpc.StatusCode.UNAUTHENTICATED
        assert await refused(front.images.GetModel(pb.GetModelRequest())) is grpc.StatusCode.UNAUTHENTICATED
        assert len(stages.pictures) == 1
        assert front.gateway.models.places._requests == 0


async def test_a_token_allows_what_its_scopes_say(tmp_path: Path) -> None:
    tokens = {name: made([name], name) for name in SCOPES}
    write_tokens(tmp_path / "tokens.json", [token for token, _ in tokens.values()])
    picture = png_of(np.dstack([np.asarray(noise(64, 64)), np.zeros((64, 64), np.uint8)]))
    async with fronting(FakeStages(), tokens=str(tmp_path / "tokens.json")) as front:
        calls: dict[str, list[tuple[Any, Any]]] = {
            "generate": [
                (front.images.Generate, FOX),
                (front.images.Vary, pb.VaryRequest(picture=picture, size=64)),
            ],
            "edit": [(front.images.Inpaint, pb.InpaintRequest(picture=picture, prompt="a fox"))],
            "embed": [
                (front.images.EmbedText, pb.EmbedTextRequest(text="a fox")),
                (front.images.EmbedImage, pb.EmbedImageRequest(picture=picture)),
                (front.images.RankCaptions, pb.RankCaptionsRequest(picture=picture, captions=["a", "b"])),
            ],
        }
        for name, (_, text) in tokens.items():
            assert (await front.images.GetModel(pb.GetModelRequest(), metadata=bearer(text))).name == SHIPPED
            for scope, asked in calls.items():
                for method, message in asked:
                    call = method(message, metadata=bearer(text))
                    if name in (scope, "admin"):
                        await call
                    else:
                        assert await refused(call) is grpc.StatusCode.PERMISSION_DENIED, (name, scope)


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token, text = made(["generate"])
    write_tokens(file, [token])
    assert file.stat().st_mode & 0o777 == 0o600
    assert text.split("_", 2)[2] not in file.read_text()
    now = 0.0
    authenticator = Authenticator(str(file), lambda: now)
    assert authenticator.caller(f"Bearer {text}").tenant == "acme"
    file.write_text("{")
    now = 2.0
    assert authenticator.caller(f"bearer {text}").name == "shop"
    write_tokens(file, [])
    assert authenticator.caller(f"Bearer {text}").name == "shop", "it does not look at every call"
    now = 4.0
    with pytest.raises(Unauthenticated):
        authenticator.caller(f"Bearer {text}")


def test_a_file_that_cannot_be_read_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"tokens\.json"):
        Authenticator(str(tmp_path / "tokens.json"))
    (tmp_path / "tokens.json").write_text('{"tokens": [{"id": 7}]}')
    with pytest.raises(ValueError, match="holds no tokens"):
        Authenticator(str(tmp_path / "tokens.json"))


async def test_the_command_line_makes_lists_and_revokes_tokens(tmp_path: Path, front: Front) -> None:
    file = tmp_path / "tokens.json"

    async def token(*arguments: str) -> tuple[int, str]:
        return await unclip(front, tmp_path, "token", *arguments, "--file", str(file))

    code, said = await token("create", "shop", "--tenant", "acme", "--scope", "generate", "--days", "30")
    assert code == 0, said
    text = said.strip().splitlines()[-1]
    assert (await token("create", "shop"))[0] == 2
    assert (await token("create", "a/b"))[0] == 2
    code, said = await token("list")
    assert "shop: acme, generate, until" in said
    assert text not in said
    async with fronting(FakeStages(), tokens=str(file)) as guarded:
        code, said = await unclip(guarded, tmp_path, "generate", "a fox", "--size", "64", "-o", "fox.png")
        assert code == 1
        assert "token" in said
        code, said = await unclip(
            guarded, tmp_path, "--token", text, "generate", "a fox", "--size", "64", "-o", "fox.png"
        )
        assert code == 0, said
    assert (await token("revoke", "nobody"))[0] == 2
    assert (await token("revoke", "shop"))[0] == 0
    assert read_tokens(file) == ()


def test_a_file_keeps_its_mode_and_no_change_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    write_tokens(file, [])
    file.chmod(0o640)

    def add(number: int) -> None:
        with changing(file) as tokens:
            tokens.append(made(["edit"], f"token {number}")[0])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert len(read_tokens(file)) == 24
    assert file.stat().st_mode & 0o777 == 0o640


def test_nobody_is_let_in_when_the_file_has_been_gone_for_long(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token, text = made(["generate"])
    write_tokens(file, [token])
    now = 0.0
    authenticator = Authenticator(str(file), lambda: now)
    file.unlink()
    now = 60.0  # nobody has called since
    assert authenticator.caller(f"Bearer {text}").name == "shop"
    now = 69.0
    assert authenticator.caller(f"Bearer {text}").name == "shop"
    now = 72.0
    with pytest.raises(Unauthenticated):
        authenticator.caller(f"Bearer {text}")
    write_tokens(file, [token])
    now = 74.0
    assert authenticator.caller(f"Bearer {text}").name == "shop"


@pytest.mark.parametrize("change", [{"salt": "zz"}, {"hash": "é" * 64}, {"id": "7"}])
def test_odd_files_are_refused_without_telling_what_is_in_them(
    tmp_path: Path, change: dict[str, str]
) -> None:
    token, _ = made(["generate"])
    record = {**json.loads(token.model_dump_json()), **change}
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": [record]}))
    with pytest.raises(ValueError, match="holds no tokens") as failure:
        read_tokens(tmp_path / "tokens.json")
    assert token.hash[:20] not in str(failure.value)


async def test_who_guesses_is_slowed_down_and_nobody_else(tmp_path: Path) -> None:
    good, text = new_token("shop", "acme", ("generate",), None)
    write_tokens(tmp_path / "tokens.json", [good])
    async with fronting(FakeStages(), tokens=str(tmp_path / "tokens.json")) as front:
        codes = [
            (await refusal(front.images.Generate(FOX, metadata=bearer(f"unclip_{i}_x")))).code()
            for i in range(70)
        ]
        assert codes[:60] == [grpc.StatusCode.UNAUTHENTICATED] * 60
        assert codes[60:] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 10
        assert (await front.images.Generate(FOX, metadata=bearer(text))).pictures


def test_failures_are_forgotten_after_a_minute() -> None:
    now = 0.0
    failures = Failures(lambda: now)
    for _ in range(60):
        assert failures.note("a") == 0
    assert failures.note("a") == 60
    assert failures.note("b") == 0
    now = 59.0
    assert failures.note("a") == 1
    now = 60.5
    assert failures.note("a") == 0
