"""Karlo v1 alpha, and its image variations, which bring the image encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from services.bundles import karlo
from services.bundles.bundle import BundleError, Licence
from services.bundles.weights import on_no_device
from services.decoder.conditioning import ConditioningConfig
from services.decoder.network import Decoder, DecoderConfig, Upsampler, UpsamplerConfig
from services.diffusion.config import SamplingConfig
from services.importing import configs
from services.importing.checkpoint import Pipeline
from services.importing.writing import (
    clip_config,
    diffusion_of,
    direct_prior,
    joined,
    require_used,
    require_width,
    write_direct_prior,
    write_network,
    write_prior,
    write_tower,
    write_vocabulary,
)

NAME = "karlo-v1-alpha"
LICENCES = (
    Licence(subject="model weights", identifier="CreativeML-OpenRAIL-M", source="kakaobrain/karlo-v1-alpha"),
)
PRIOR_SAMPLING = SamplingConfig(steps=25, guidance=4.0)
DECODER_SAMPLING = SamplingConfig(steps=25, guidance=8.0)
UPSAMPLER_SAMPLING = SamplingConfig(steps=7)
PROJECTION_TAKEN = (
    "clip_embeddings_dim",
    "clip_extra_context_tokens",
    "cross_attention_dim",
    "time_embed_dim",
)


def claims(pipelines: Sequence[Pipeline]) -> bool:
    """Whether these are Karlo's."""
    return any("text_proj" in p and "super_res_last" in p for p in pipelines)


def write(pipelines: Sequence[Pipeline], out: Path, dtype: torch.dtype) -> None:
    """Write the bundle's parts. Raises BundleError for what is missing or not implemented."""
    found = [p for p in pipelines if "prior_scheduler" in p]
    varying = [p for p in pipelines if "image_encoder" in p]
    if len(found) != 1 or len(varying) != 1:
        raise BundleError("karlo-v1-alpha and karlo-v1-alpha-image-variations are needed, each once")
    main, variations = found[0], varying[0]
    require_used(pipelines, [main, variations], "Karlo v1")
    direct = direct_prior(pipelines)
    require_width(direct or main["prior"], main["text_encoder"])
    config = clip_config(main["text_encoder"], variations["image_encoder"], variations["feature_extractor"])
    write_tower(out / "image-tower", "image", variations["image_encoder"], config, dtype)
    write_tower(out / "text-tower", "text", main["text_encoder"], config, dtype)
    write_vocabulary(main["tokenizer"], out / "text-tower")
    if direct is not None:
        write_direct_prior(direct, out / "prior", dtype)
    else:
        write_prior(main["prior"], main["prior_scheduler"], PRIOR_SAMPLING, out / "prior", dtype)
    write_decoder(main, out / "decoder", dtype)
    write_upsampler(main, out, dtype)


def write_decoder(pipeline: Pipeline, folder: Path, dtype: torch.dtype) -> None:
    """Write the U-Net with its conditioning."""
    part = pipeline["decoder"]
    projection = pipeline["text_proj"]
    given = part.config()
    widths = projection.config()
    configs.require(str(projection.folder), widths, {}, PROJECTION_TAKEN)
    config = DecoderConfig(
        side=given["sample_size"],
        unet=configs.unet(str(part.folder), given),
        conditioning=ConditioningConfig(
            embedding_dim=widths["clip_embeddings_dim"],
            text_dim=widths["clip_embeddings_dim"],
            image_tokens=widths["clip_extra_context_tokens"],
        ),
        diffusion=diffusion_of(pipeline["decoder_scheduler"], DECODER_SAMPLING),
        inpainting=False,
    )
    tensors = part.tensors()
    projections = projection.tensors()
    state = joined(unet=karlo.unet(tensors), conditioning=karlo.conditioning(projections))
    write_network(folder, config, on_no_device(lambda: Decoder(config)), state, dtype)


def write_upsampler(pipeline: Pipeline, out: Path, dtype: torch.dtype) -> None:
    """Both networks: the first steps' and the last one's."""
    first, last = pipeline["super_res_first"], pipeline["super_res_last"]
    unet = configs.upsampler(str(first.folder), first.config())
    if configs.upsampler(str(last.folder), last.config()) != unet:
        raise BundleError(f"{last.folder} is not shaped as {first.folder}, which is not implemented")
    side = first.config()["sample_size"]
    config = UpsamplerConfig(
        side_in=pipeline["decoder"].config()["sample_size"],
        side=side,
        unet=unet,
        diffusion=diffusion_of(pipeline["super_res_scheduler"], UPSAMPLER_SAMPLING),
        inpainting=False,
        last=f"last-{side}",
    )
    for part, folder in ((first, f"upsampler-{side}"), (last, config.last)):
        tensors = part.tensors()
        state = {f"unet.{key}": value for key, value in karlo.unet(tensors).items()}
        write_network(out / folder, config, on_no_device(lambda: Upsampler(config)), state, dtype)
