"""Pictures say where they come from, in a way that programs can check, and keep their pixels."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import c2pa
import grpc
import numpy as np
import pytest
from PIL import Image

from gateway import provenance
from gateway.cli.provenance import read
from gateway.provenance import MIMES, SELF_MADE, SETTINGS_KEY, Made, ProvenanceError, Signer, self_made
from gateway.settings import Settings
from services.editing.pictures import OutputFormat, encode_picture
from tests.fakes.stages import FakeStages
from tests.gateway.conftest import FOX, Front, fronting, png_of, refusal
from tests.gateway.test_cli import unclip
from tests.gateway.test_contract import noise
from tests.pictures import drawn
from unclip.v1 import image_service_pb2 as pb

MADE = Made("unclip-emoji", "0.13.0")


def manifest_of(data: bytes) -> Any:
    kind = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
    mime = kind[str(Image.open(io.BytesIO(data)).format)]
    told = json.loads(c2pa.Reader(mime, io.BytesIO(data)).json())
    assert told["validation_state"] in ("Valid", "Trusted"), told
    return told["manifests"][told["active_manifest"]]


def action_of(manifest: Any) -> Any:
    (actions,) = [a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")]
    return actions["data"]["actions"][-1]


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(self_made)


@pytest.mark.parametrize("form", MIMES)
def test_every_format_is_signed_and_keeps_its_pixels(signer: Signer, form: OutputFormat) -> None:
    plain = encode_picture(np.asarray(noise(96, 64)), form, 90)
    signed = signer.signed(plain, form, MADE)
    assert drawn(signed) == drawn(plain)
    manifest = manifest_of(signed)
    assert SELF_MADE in manifest["signature_info"]["issuer"]
    action = action_of(manifest)
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert action["softwareAgent"] == {"name": "unclip-emoji", "version": "0.13.0"}


def test_a_transparent_picture_stays_so(signer: Signer) -> None:
    pixels = np.dstack([np.asarray(noise(32, 32)), np.arange(1024, dtype=np.uint8).reshape(32, 32)])
    plain = encode_picture(pixels, "PNG", 90)
    assert drawn(signer.signed(plain, "PNG", MADE)) == drawn(plain)


@pytest.mark.parametrize("given", [(b"",), (b"no picture",), (b"\x89PNG\r\n\x1a\n" + bytes(50),)])
def test_what_cannot_be_an_ingredient_is_left_out(signer: Signer, given: tuple[bytes, ...]) -> None:
    plain = encode_picture(np.asarray(noise(32, 32)), "PNG", 90)
    made = Made("unclip-emoji", "0", edited=True, given=given)
    assert manifest_of(signer.signed(plain, "PNG", made))


def ingredients(manifest: Any) -> Sequence[str]:
    return [ingredient["relationship"] for ingredient in manifest.get("ingredients", ())]


async def test_flows_say_what_pictures_are_made_of(front: Front) -> None:
    options = pb.SamplingOptions(seed=7, decoder_steps=3)
    made = await front.images.Generate(pb.GenerateRequest(prompt="a fox", size=64, options=options))
    picture = made.pictures[0].data
    assert not ingredients(manifest_of(picture))
    settings = action_of(manifest_of(picture))["parameters"][SETTINGS_KEY]
    assert (int(settings["seed"]), settings["decoder_steps"]) == (7, 3)
    assert "a fox" not in str(manifest_of(picture))
    transparent = np.dstack([np.asarray(noise(64, 64)), np.zeros((64, 64), np.uint8)])
    edit = await front.images.Inpaint(pb.InpaintRequest(picture=png_of(transparent), prompt="a fox"))
    manifest = manifest_of(edit.pictures[0].data)
    assert action_of(manifest)["action"] == "c2pa.edited"
    assert ingredients(manifest) == ["parentOf"]
    varied = await front.images.Vary(pb.VaryRequest(picture=picture, size=64))
    assert ingredients(manifest_of(varied.pictures[0].data)) == ["inputTo"]
    stream = front.images.Stream(
        pb.StreamRequest(
            generate=pb.GenerateRequest(
                prompt="a fox", size=64, options=pb.SamplingOptions(preview_interval=1, decoder_steps=3)
            )
        )
    )
    previews = [r.preview.data async for r in stream if r.HasField("preview")]
    assert all(manifest_of(data) for data in previews)


async def test_it_can_be_turned_off() -> None:
    async with fronting(FakeStages(), provenance=False) as front:
        made = await front.images.Generate(pb.GenerateRequest(prompt="a fox", size=64))
        with pytest.raises(c2pa.C2paError.ManifestNotFound):
            manifest_of(made.pictures[0].data)


async def test_verify_says_who_signed_what_and_whether_it_was_changed(tmp_path: Path, front: Front) -> None:
    file = tmp_path / "fox.png"
    made = await front.images.Generate(pb.GenerateRequest(prompt="a fox", size=64))
    file.write_bytes(made.pictures[0].data)
    code, said = await unclip(front, tmp_path, "verify", "fox.png")
    assert code == 0, said
    assert "made by AI" in said
    assert f"seed {made.pictures[0].seed}" in said.replace("\n", " ")
    assert SELF_MADE in said
    changed = bytearray(made.pictures[0].data)
    at = changed.rindex(b"IDAT") + 12
    changed[at] ^= 1
    file.write_bytes(changed)
    assert not read(file).valid
    (tmp_path / "plain.png").write_bytes(png_of(noise(8, 8)))
    code, said = await unclip(front, tmp_path, "verify", "plain.png")
    assert code == 1
    assert "nothing" in said


def own_key(folder: Path) -> dict[str, Any]:
    """Settings with a certificate and a key in this folder, which are made anew."""
    chain, key = self_made()
    (folder / "key.pem").write_bytes(key)
    (folder / "chain.pem").write_bytes(chain)
    return {"provenance_certificate": f"{folder}/chain.pem", "provenance_key": f"{folder}/key.pem"}


def test_a_key_of_ones_own(tmp_path: Path) -> None:
    files = own_key(tmp_path)
    assert Signer.of(Settings(**files))
    (tmp_path / "key.pem").write_bytes(self_made()[1])
    with pytest.raises(ProvenanceError, match="another key's"):
        Signer.of(Settings(**files))
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(ProvenanceError, match="UNCLIP_PROVENANCE"):
        Signer.of(Settings(**files))
    with pytest.raises(ValueError, match="both are needed"):
        Settings(provenance_key="key.pem")


async def test_a_certificate_that_expires_is_told_before_anything_is_drawn_and_a_new_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "LOOK_SECONDS", 0.0)
    stages = FakeStages()
    with monkeypatch.context() as short:
        short.setattr(provenance, "YEARS", datetime.timedelta(seconds=3))
        files = own_key(tmp_path)
    async with fronting(stages, **files) as front:
        assert (await front.images.Generate(FOX)).pictures
        await asyncio.sleep(4)
        drawn_before = len(stages.tasks)
        error = await refusal(front.images.Generate(FOX))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "certificate" in (error.details() or "")
        assert len(stages.tasks) == drawn_before
        with pytest.raises(ProvenanceError, match="not valid now"):
            Signer.of(Settings(**files))
        (tmp_path / "key.pem").write_text("half written")
        assert (await refusal(front.images.Generate(FOX))).code() is grpc.StatusCode.FAILED_PRECONDITION
        own_key(tmp_path)
        assert (await front.images.Generate(FOX)).pictures
