"""ECLIPSE's priors in place of a family's own: one evaluation, the embedding that the reference computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from services.bundles.bundle import Bundle
from services.diffusion.noise import generator_for
from services.importing.__main__ import main
from services.prior.sampler import PriorSampler
from services.prior.settings import Settings
from services.prior.stage import PriorStage
from tests.closeness import assert_within
from tests.importing.checkpoints import DIM, kandinsky_decoder, kandinsky_prior, karlo, seeded
from tests.importing.eclipse import PriorTransformer
from tests.importing.serving import served
from tests.importing.test_kandinsky import SEED, texts
from tests.parity.test_networks import randomised
from unclip.v1 import image_service_pb2 as pb


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the reference computes, whatever the machine is best at."""
    monkeypatch.setattr("services.bundles.weights.best_dtype", lambda device: torch.float32)


def eclipse(folder: Path) -> PriorTransformer:
    """A prior, narrow, in its layout: a folder that no pipeline is around."""
    made: PriorTransformer = randomised(
        PriorTransformer(num_attention_heads=4, attention_head_dim=16, num_layers=2, embedding_dim=DIM)
    )
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize("family", ["kandinsky", "karlo"])
@torch.inference_mode()
def test_the_embedding_is_the_references(tmp_path: Path, family: str) -> None:
    seeded()
    if family == "kandinsky":
        kandinsky_prior(tmp_path / "main")
        kandinsky_decoder(tmp_path / "variations")
    else:
        karlo(tmp_path / "main")
    reference = eclipse(tmp_path / "eclipse")
    bundle = tmp_path / "bundle"
    asked = [str(tmp_path / name) for name in ("eclipse", "main", "variations", "bundle")]
    result = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output

    sampler = PriorSampler(Bundle(bundle, "prior"))
    text, unconditional = texts(bundle)
    conditioning = sampler.project(text, unconditional)
    row = sampler.start(conditioning, seed=SEED, candidate=0, steps=25, guidance=4.0)
    assert [segment.steps for segment in sampler.plan(25, 4.0)] == [1]
    sampler.advance([row])
    assert row.finished
    embedding, _ = sampler.best([row])
    noise = torch.randn(DIM, generator=generator_for(SEED, "prior", 0))[None]
    theirs = reference(noise, text.embedding[None], text.states[None], text.mask[None])[0]
    assert_within(embedding, theirs, 1e-5, relative=True)
    assert PriorStage(Settings(bundle=str(bundle))).describe().defaults.fixed
    licences = json.loads((bundle / "manifest.json").read_text())["licences"]
    assert any("ECLIPSE" in licence["source"] for licence in licences)


async def test_callers_are_told_that_it_took_one_step(tmp_path: Path) -> None:
    seeded()
    karlo(tmp_path / "karlo")
    eclipse(tmp_path / "eclipse")
    asked = [str(tmp_path / name) for name in ("eclipse", "karlo", "variations", "bundle")]
    assert CliRunner().invoke(main, asked).exit_code == 0
    options = pb.SamplingOptions(prior_steps=25, prior_guidance=4, decoder_steps=2, upsampler_steps=2)
    async with served(tmp_path / "bundle") as images:
        answer = await images.Generate(pb.GenerateRequest(prompt="a fox", size=64, options=options))
    took = answer.pictures[0].options
    assert (took.prior_steps, took.prior_guidance) == (1, 1)


def test_two_priors_are_refused(tmp_path: Path) -> None:
    seeded()
    karlo(tmp_path / "karlo")
    eclipse(tmp_path / "one")
    eclipse(tmp_path / "two")
    asked = [str(tmp_path / name) for name in ("one", "two", "karlo", "variations", "bundle")]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1
    assert "at most one ECLIPSE prior can be used; 2 are given" in result.output
    assert not (tmp_path / "bundle").exists()
