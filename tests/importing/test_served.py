"""Imported families through the public service, over gRPC: what their own pipelines draw, within 1/255."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import KandinskyV22InpaintPipeline, UnCLIPImageVariationPipeline
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from services.diffusion.noise import generator_for
from services.editing.canvas import Canvas
from services.editing.frames import plan
from services.importing.__main__ import main as import_model
from tests.closeness import assert_within
from tests.importing.checkpoints import DIM, exact, kandinsky_decoder, kandinsky_prior, karlo, seeded
from tests.importing.serving import served
from tests.importing.test_kandinsky import PROMPT, SEED
from unclip.v1 import image_service_pb2 as pb

OPTIONS = pb.SamplingOptions(
    n=2,
    seed=SEED,
    prior_steps=7,
    prior_guidance=4,
    prior_candidates=1,
    decoder_steps=5,
    decoder_guidance=4,
    upsampler_steps=7,
)
HOLE = (slice(48, 208), slice(40, 208))  # in whole latents: the reference samples its mask at their corners


@pytest.fixture(scope="module", autouse=True)
def float32() -> Iterator[None]:
    """As the reference computes, whatever the machine is best at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.bundles.weights.best_dtype", lambda device: torch.float32)
        patch.setattr("services.importing.kandinsky.SIDE", 256)  # 512 would take a minute
        yield


@pytest.fixture(scope="module")
def kandinsky(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """The folder with the bundle, and the pipelines of the prior and of the decoder."""
    seeded()
    folder = tmp_path_factory.mktemp("kandinsky")
    prior = kandinsky_prior(folder / "prior")
    decoder = kandinsky_decoder(folder / "decoder")
    kandinsky_decoder(folder / "inpaint", in_channels=9)
    imported(folder, "inpaint", "decoder", "prior")
    return folder, prior, decoder


def imported(folder: Path, *names: str) -> None:
    result = CliRunner().invoke(import_model, [str(folder / name) for name in (*names, "bundle")])
    assert result.exit_code == 0, result.output


def pixels(picture: pb.Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)


def file_of(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def smooth(side: int) -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def prepared(given: np.ndarray, processor: CLIPImageProcessor) -> Tensor:
    """As the image tower takes it. The reference itself rounds to 8 bits after it has resized."""
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(given.copy()).movedim(-1, 0)[None] / 255,
        (28, 28),
        mode="bicubic",
        antialias=True,
    )
    mean, std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))
    return (resized.clamp(0, 1) - mean) / std


def embedded(reference: Any, seed: int) -> tuple[Tensor, Tensor]:
    """What the reference's prior draws, with this seed's noise, and its embedding of nothing."""
    generator = generator_for(seed, "prior", 0)
    latents = torch.randn(DIM, generator=generator)[None]
    found = reference(PROMPT, num_inference_steps=7, guidance_scale=4.0, generator=generator, latents=latents)
    return found.image_embeds, found.negative_image_embeds


def drawn(reference: Any, *given: Any, seed: int, side: int, width: int = 0) -> np.ndarray:
    """What a Kandinsky decoder's pipeline draws with this seed's noise. given: as its call takes it."""
    width = width or side
    generator = generator_for(seed, "decoder")
    latents = torch.randn((4, side // 8, width // 8), generator=generator)[None]
    theirs = reference(
        *given,
        height=side,
        width=width,
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=generator,
        latents=latents,
        output_type="np",
    )
    return (255 * theirs.images[0]).round().astype(int)


async def test_kandinsky_generates_what_the_reference_draws(kandinsky: tuple[Path, Any, Any]) -> None:
    folder, prior, decoder = kandinsky
    async with served(folder / "bundle") as images:
        request = pb.GenerateRequest(prompt=PROMPT, size=256, options=OPTIONS)
        answer = await images.Generate(request)
    for picture in answer.pictures:  # row by row: the reference's rows share one generator
        theirs = drawn(decoder, *embedded(prior, picture.seed), seed=picture.seed, side=256)
        assert_within(pixels(picture), theirs, 1)


async def test_kandinsky_draws_what_is_not_square_as_the_reference_does(
    kandinsky: tuple[Path, Any, Any],
) -> None:
    folder, prior, decoder = kandinsky
    async with served(folder / "bundle") as images:
        shape = pb.Shape(width=320, height=256)
        answer = await images.Generate(pb.GenerateRequest(prompt=PROMPT, shape=shape, options=OPTIONS))
    for picture in answer.pictures:
        theirs = drawn(decoder, *embedded(prior, picture.seed), seed=picture.seed, side=256, width=320)
        assert_within(pixels(picture), theirs, 1)


async def test_kandinsky_inpaints_what_the_reference_paints(kandinsky: tuple[Path, Any, Any]) -> None:
    folder, prior, decoder = kandinsky
    given = smooth(256)
    hole = np.zeros((256, 256), bool)
    hole[HOLE] = True
    mask = np.where(hole, 255, 0).astype(np.uint8)
    async with served(folder / "bundle") as images:
        options = pb.SamplingOptions()
        options.CopyFrom(OPTIONS)
        options.n = 1
        request = pb.InpaintRequest(
            prompt=PROMPT, picture=file_of(given), mask=file_of(mask), options=options
        )
        answer = await images.Inpaint(request)
    reference = KandinskyV22InpaintPipeline.from_pretrained(folder / "inpaint")
    reference.movq = decoder.movq  # the bundle has one for both, as the published ones are the same
    canvas = Canvas(given.copy(), hole.copy())
    (frame,) = plan(hole, 1)
    shown, keep = canvas.view(frame, 256)
    image, negative = embedded(prior, SEED)
    hidden = 1 - keep.astype(np.float32) / 255
    theirs = drawn(reference, image, Image.fromarray(shown), hidden, negative, seed=SEED, side=256)
    canvas.paint(frame, theirs.astype(np.uint8))
    ours = pixels(answer.pictures[0])
    assert_within(ours, canvas.result, 1)
    np.testing.assert_array_equal(ours[~hole], given[~hole])


async def test_kandinsky_outpaints_mixes_varies_and_interpolates(kandinsky: tuple[Path, Any, Any]) -> None:
    """Flows that its own pipelines do not have, or have otherwise."""
    folder, _, _ = kandinsky
    given = smooth(256)
    options = pb.SamplingOptions(seed=1, prior_steps=2, prior_candidates=1, decoder_steps=2)
    async with served(folder / "bundle") as images:
        picture = file_of(given)
        margins = pb.Margins(left=64, right=32)
        wide = await images.Outpaint(
            pb.OutpaintRequest(picture=picture, prompt=PROMPT, margins=margins, options=options)
        )
        found = pixels(wide.pictures[0])
        assert found.shape == (256, 352, 3)
        np.testing.assert_array_equal(found[:, 64:320], given)
        varied = await images.Vary(pb.VaryRequest(picture=picture, similarity=0.5, size=256, options=options))
        assert pixels(varied.pictures[0]).shape == (256, 256, 3)
        sources = [pb.Source(picture=picture), pb.Source(prompt=PROMPT)]
        mixed = await images.Mix(pb.MixRequest(sources=sources, size=256, options=options))
        assert pixels(mixed.pictures[0]).shape == (256, 256, 3)
        way = await images.Interpolate(
            pb.InterpolateRequest(start=sources[0], end=sources[1], frames=2, size=256, options=options)
        )
        assert len(way.pictures) == 2
        model = await images.GetModel(pb.GetModelRequest())
        assert list(model.sizes) == list(range(256, 1025, 64))
        assert model.default_size == 256


@pytest.fixture(scope="module")
def karlos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """The folder with the bundle, and the pipelines that draw a sentence and that vary a picture."""
    seeded()
    folder = tmp_path_factory.mktemp("karlo")
    main: Any = karlo(folder / "karlo")
    imported(folder, "variations", "karlo")
    towers = folder / "variations"
    parts = {name: part for name, part in main.components.items() if not name.startswith("prior")}
    varying: Any = UnCLIPImageVariationPipeline(
        **parts,
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(towers / "image_encoder"),
        feature_extractor=CLIPImageProcessor.from_pretrained(towers / "feature_extractor"),
    )
    for name in ("prior", "decoder", "super_res"):
        exact(getattr(main, f"{name}_scheduler"))
    return folder, main, varying


def noises(monkeypatch: pytest.MonkeyPatch, seed: int) -> dict[str, Tensor]:
    """What the reference starts from, and draws from then on: the noise of each of our stages, by shape."""
    generators = {
        "prior": ((1, DIM), generator_for(seed, "prior", 0)),
        "decoder": ((1, 3, 16, 16), generator_for(seed, "decoder")),
        "super_res": ((1, 3, 64, 64), generator_for(seed, "upsampler-64")),
    }
    own = dict(generators.values())

    def noise(shape: Any, **_: Any) -> Tensor:
        return torch.randn(tuple(shape), generator=own[tuple(shape)])

    monkeypatch.setattr("diffusers.schedulers.scheduling_unclip.randn_tensor", noise)
    return {f"{name}_latents": noise(shape) for name, (shape, _) in generators.items()}


STEPS = {"decoder_num_inference_steps": 5, "super_res_num_inference_steps": 7, "decoder_guidance_scale": 4.0}


async def test_karlo_generates_what_the_reference_draws(
    karlos: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reference, _ = karlos
    async with served(folder / "bundle") as images:
        answer = await images.Generate(pb.GenerateRequest(prompt=PROMPT, size=64, options=OPTIONS))
    for picture in answer.pictures:
        latents = noises(monkeypatch, picture.seed)
        prior = {"prior_num_inference_steps": 7, "prior_guidance_scale": 4.0}
        theirs = reference(PROMPT, **prior, **STEPS, **latents, output_type="np").images[0]
        assert_within(pixels(picture), (255 * theirs).round(), 1)


async def test_karlo_varies_as_the_reference_does(
    karlos: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, reference = karlos
    given = smooth(64)
    async with served(folder / "bundle") as images:
        request = pb.VaryRequest(picture=file_of(given), similarity=0, size=64, options=OPTIONS)
        answer = await images.Vary(request)
    for picture in answer.pictures:
        latents = noises(monkeypatch, picture.seed)
        del latents["prior_latents"]
        image = prepared(given, reference.feature_extractor)
        theirs = reference(image, **STEPS, **latents, output_type="np").images[0]
        assert_within(pixels(picture), (255 * theirs).round(), 1)


async def test_karlo_edits_by_known_pixels(karlos: tuple[Path, Any, Any]) -> None:
    """It has no mask channels, and its own pipelines do not edit."""
    folder, _, _ = karlos
    given = smooth(128)
    hole = np.zeros((128, 128), bool)
    hole[40:90, 30:100] = True
    mask = np.where(hole, 255, 0).astype(np.uint8)
    options = pb.SamplingOptions(seed=1, prior_steps=2, prior_candidates=1, decoder_steps=3)
    async with served(folder / "bundle") as images:
        painted = await images.Inpaint(
            pb.InpaintRequest(prompt=PROMPT, picture=file_of(given), mask=file_of(mask), options=options)
        )
        margins = pb.Margins(top=32)
        wide = await images.Outpaint(
            pb.OutpaintRequest(prompt=PROMPT, picture=file_of(given), margins=margins, options=options)
        )
    found = pixels(painted.pictures[0])
    np.testing.assert_array_equal(found[~hole], given[~hole])
    assert (found[hole] != given[hole]).any()
    np.testing.assert_array_equal(pixels(wide.pictures[0])[32:], given)
