"""``diffusers``' own pipelines of both families, as shipped or as fast as their settings make them."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from tests.bench.peers_model import GUIDANCE, Family
from tests.bench.trace import Kind

PRIOR_STEPS = 5
RAISING_STEPS = 7  # of Karlo's upsampler, as it is published


class Pipelines(Protocol):
    """What draws."""

    def draw(self, asked: Sequence[str | bytes], kind: Kind) -> list[Any]:
        """A picture for each prompt, or for each picture (a file), where the kind's flow is to vary it."""


class Kandinsky:
    """Prior and decoder of a folder."""

    def __init__(self, folder: Path, dtype: str, *, channels_last: bool, compiled: bool = False) -> None:
        import torch
        from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

        torch.set_num_threads(os.cpu_count() or 1)
        kind = getattr(torch, dtype)
        self.prior = KandinskyV22PriorPipeline.from_pretrained(folder / "prior", torch_dtype=kind)
        self.decoder = KandinskyV22Pipeline.from_pretrained(folder / "decoder", torch_dtype=kind)
        for pipeline in (self.prior, self.decoder):
            pipeline.set_progress_bar_config(disable=True)
        if channels_last:
            self.decoder.unet.to(memory_format=torch.channels_last)
            self.decoder.movq.to(memory_format=torch.channels_last)
        if compiled:
            self.decoder.unet = torch.compile(self.decoder.unet)
            self.prior.prior = torch.compile(self.prior.prior)

    def draw(self, asked: Sequence[str | bytes], kind: Kind) -> list[Any]:
        """One picture for each."""
        embeds = self._shown(asked) if kind.flow == "vary" else self._imagined(asked)
        drawn = self.decoder(
            **embeds,
            height=kind.size,
            width=kind.size,
            num_inference_steps=kind.steps,
            guidance_scale=GUIDANCE,
        )
        pictures: list[Any] = drawn.images
        return pictures

    def _imagined(self, prompts: Sequence[Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.prior(
            list(prompts), num_inference_steps=PRIOR_STEPS, guidance_scale=GUIDANCE
        )
        return found

    def _shown(self, files: Sequence[Any]) -> Mapping[str, Any]:
        """As the pipeline's own ``interpolate`` does it, but without drawing from an empty prompt first."""
        import torch

        pictures = [Image.open(io.BytesIO(file)) for file in files]
        pixels = self.prior.image_processor(pictures, return_tensors="pt").pixel_values
        with torch.no_grad():
            embeds = self.prior.image_encoder(pixels.to(self.prior.image_encoder.dtype))["image_embeds"]
        nothing = self.prior.get_zero_embed(len(files))
        return {"image_embeds": embeds, "negative_image_embeds": nothing}


class Karlo:
    """All of it is one pipeline."""

    def __init__(self, folder: Path, dtype: str, *, channels_last: bool, compiled: bool = False) -> None:
        import diffusers
        import torch
        from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

        torch.set_num_threads(os.cpu_count() or 1)
        kind = getattr(torch, dtype)
        # The pipeline looks there for the class of one of its parts, and it is there no more.
        diffusers.UnCLIPTextProjModel = UnCLIPTextProjModel
        self._pipeline = diffusers.UnCLIPPipeline.from_pretrained(folder / "karlo", torch_dtype=kind)
        self._pipeline.set_progress_bar_config(disable=True)
        for name in ("decoder", "super_res_first", "super_res_last"):
            network = getattr(self._pipeline, name)
            if channels_last:
                network.to(memory_format=torch.channels_last)
            if compiled:
                setattr(self._pipeline, name, torch.compile(network))
        if compiled:
            self._pipeline.prior = torch.compile(self._pipeline.prior)

    def draw(self, asked: Sequence[str | bytes], kind: Kind) -> list[Any]:
        """One picture for each prompt."""
        drawn = self._pipeline(
            list(asked),
            prior_num_inference_steps=PRIOR_STEPS,
            decoder_num_inference_steps=kind.steps,
            super_res_num_inference_steps=RAISING_STEPS,
            prior_guidance_scale=GUIDANCE,
            decoder_guidance_scale=GUIDANCE,
        )
        pictures: list[Any] = drawn.images
        return pictures


def load(family: Family, folder: Path, dtype: str, *, channels_last: bool, compiled: bool) -> Pipelines:
    """A family's pipelines from a folder."""
    made: dict[Family, type[Kandinsky] | type[Karlo]] = {"kandinsky": Kandinsky, "karlo": Karlo}
    return made[family](folder, dtype, channels_last=channels_last, compiled=compiled)
