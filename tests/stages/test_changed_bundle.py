"""A bundle whose files change while it is served: what is loaded goes on, and nobody loads the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.bundles.bundle import ROOT, BundleError, files_of
from services.bundles.clip_source import ClipSettings, ClipSource
from services.decoder.settings import Settings as DecoderSettings
from services.decoder.stage import DecoderStage
from services.image_encoder.stage import ImageEncoderStage
from services.prior.settings import Settings as PriorSettings
from services.prior.stage import PriorStage
from services.text_encoder.stage import TextEncoderStage
from tests.importing.serving import served
from tests.pictures import drawn
from unclip.v1 import image_service_pb2 as pb

FEW_STEPS = pb.SamplingOptions(seed=7, prior_steps=2, decoder_steps=2, upsampler_steps=1)
FOX = pb.GenerateRequest(prompt="a fox", options=FEW_STEPS)


async def test_what_is_loaded_goes_on_and_a_new_replica_says_which_file_is_wrong(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / "models", bundle)
    async with served(bundle) as images:
        before = await images.Generate(FOX)
        for file in files_of(bundle).values():
            file.write_bytes(file.read_bytes()[:64])  # in place: a mapped file would end this process
        after = await images.Generate(FOX)
        assert drawn(after.pictures[0].data) == drawn(before.pictures[0].data)
    with pytest.raises(BundleError, match=r"decoder/\S+ is not the file that the manifest"):
        DecoderStage(DecoderSettings(bundle=str(bundle)))
    with pytest.raises(BundleError, match=r"prior/\S+ is not the file that the manifest"):
        PriorStage(PriorSettings(bundle=str(bundle)))
    for stage in (TextEncoderStage, ImageEncoderStage):
        with pytest.raises(BundleError, match=r"clip/\S+ is not the file that the manifest"):
            stage(ClipSettings(clip=ClipSource(bundle=str(bundle))))
