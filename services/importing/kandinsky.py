"""Kandinsky 2.2: prior, latent decoder and inpainting decoder, each a repository of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from services.bundles import kandinsky
from services.bundles.bundle import BundleError, Licence
from services.bundles.clip import read_tower
from services.bundles.weights import on_no_device
from services.clip.network import Block
from services.decoder.autoencoder import Autoencoder
from services.decoder.conditioning import ImageConditioningConfig
from services.decoder.network import Decoder, DecoderConfig
from services.diffusion.config import SamplingConfig
from services.importing import configs
from services.importing.checkpoint import Part, Pipeline
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

NAME = "kandinsky-2.2"
LICENCES = (
    Licence(subject="model weights", identifier="Apache-2.0", source="kandinsky-community/kandinsky-2-2-*"),
)
SIDE = 512
MULTIPLE = 64  # of a picture's sides: the U-Net halves latents three times, and a latent is 8 px wide
SIDES = tuple(range(256, 1025, MULTIPLE))
PRIOR_SAMPLING = SamplingConfig(steps=25, guidance=4.0)
DECODER_SAMPLING = SamplingConfig(steps=50, guidance=4.0)
PREVIEW_PICTURES = 32


def claims(pipelines: Sequence[Pipeline]) -> bool:
    """Whether these are Kandinsky's."""
    decoders = [p for p in pipelines if "movq" in p]
    return bool(decoders) and all(
        p["unet"].config().get("encoder_hid_dim_type") == "image_proj" for p in decoders
    )


def write(pipelines: Sequence[Pipeline], out: Path, dtype: torch.dtype) -> None:
    """Write the bundle's parts. Raises BundleError for what is missing or not implemented."""
    prior = _one([p for p in pipelines if "text_encoder" in p], "a prior (kandinsky-2-2-prior)")
    decoders = [p for p in pipelines if "movq" in p]
    plain = _one([p for p in decoders if not _inpaints(p)], "a decoder (kandinsky-2-2-decoder)")
    edits = [p for p in decoders if _inpaints(p)]
    require_used(pipelines, [prior, *decoders], "Kandinsky 2.2")
    direct = direct_prior(pipelines)
    require_width(direct or prior["prior"], prior["text_encoder"])
    config = clip_config(prior["text_encoder"], prior["image_encoder"], prior["image_processor"])
    write_tower(out / "image-tower", "image", prior["image_encoder"], config, dtype)
    write_tower(out / "text-tower", "text", prior["text_encoder"], config, dtype)
    write_vocabulary(prior["tokenizer"], out / "text-tower")
    null = _null_image(out / "image-tower", dtype)
    if direct is not None:
        write_direct_prior(direct, out / "prior", dtype)
    else:
        write_prior(prior["prior"], prior["scheduler"], PRIOR_SAMPLING, out / "prior", dtype)
    write_decoder(plain, null, out / "decoder", dtype)
    if edits:
        inpaint = _one(edits, "a decoder for inpainting (kandinsky-2-2-decoder-inpaint)")
        write_decoder(inpaint, null, out / "decoder-inpaint", dtype)
    write_autoencoder(plain["movq"], out / "autoencoder", dtype)


def _one(found: Sequence[Pipeline], what: str) -> Pipeline:
    if len(found) != 1:
        raise BundleError(f"{what} is needed, once; {len(found)} are given")
    return found[0]


def _inpaints(pipeline: Pipeline) -> bool:
    channels: dict[str, Any] = pipeline["unet"].config()
    return bool(channels["in_channels"] != channels["out_channels"] // 2)


@torch.inference_mode()
def _null_image(tower: Path, dtype: torch.dtype) -> Tensor:
    """What the image encoder makes of a picture whose every value is 0, after normalisation.

    dtype: of the weights. It computes in float32, of which memory holds one block's weights at a time.
    """
    model, config = read_tower(tower, "image", torch.device("cpu"), dtype)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    in_blocks = {id(parameter) for block in blocks for parameter in block.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in in_blocks:
            parameter.data = parameter.data.float()

    def widen(block: nn.Module, _: Any) -> None:
        block.float()

    def narrow(block: nn.Module, *_: Any) -> None:
        block.to(dtype)

    for block in blocks:
        block.register_forward_pre_hook(widen)
        block.register_forward_hook(narrow)
    side = config.model_cfg.vision_cfg.image_size
    found: Tensor = model(torch.zeros(1, 3, side, side))[0]
    return found


def write_decoder(pipeline: Pipeline, null: Tensor, folder: Path, dtype: torch.dtype) -> None:
    """Write a U-Net with its conditioning. null: (D,), the embedding that guidance is measured against."""
    part = pipeline["unet"]
    given = part.config()
    unet = configs.unet(str(part.folder), given)
    movq = pipeline["movq"]
    tensors = part.tensors()
    tokens = tensors["encoder_hid_proj.image_embeds.weight"].shape[0] // unet.context_dim
    config = DecoderConfig(
        side=SIDE,
        sides=SIDES,
        multiple=MULTIPLE,
        unet=unet,
        conditioning=ImageConditioningConfig(embedding_dim=given["encoder_hid_dim"], image_tokens=tokens),
        diffusion=diffusion_of(pipeline["scheduler"], DECODER_SAMPLING),
        inpainting=_inpaints(pipeline),
        imposing="noised",
        autoencoder=configs.autoencoder(str(movq.folder), movq.config()),
    )
    state = joined(unet=kandinsky.unet(tensors), conditioning=kandinsky.conditioning(tensors, null))
    write_network(folder, config, on_no_device(lambda: Decoder(config)), state, dtype)


def write_autoencoder(part: Part, folder: Path, dtype: torch.dtype) -> None:
    """Write MoVQ, with a linear map from its latents to colours for previews."""
    config = configs.autoencoder(str(part.folder), part.config())
    state = kandinsky.autoencoder(part.tensors())
    state |= _preview(config, state)
    write_network(folder, None, on_no_device(lambda: Autoencoder(config)), state, dtype)


@torch.inference_mode()
def _preview(config: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The linear map from latents to colours, fitted to pictures of smooth colours (least squares)."""
    network = Autoencoder(config)
    blank = {"preview.weight": network.preview.weight, "preview.bias": network.preview.bias}
    network.load_state_dict({**{k: v.float() for k, v in state.items()}, **blank})
    generator = torch.Generator().manual_seed(0)
    small = 2 * torch.rand(PREVIEW_PICTURES, 3, 4, 4, generator=generator) - 1
    pictures = nn.functional.interpolate(small, size=(64, 64), mode="bicubic").clamp(-1, 1)
    encoded = torch.cat([network.encode(few) for few in torch.split(pictures, 4)])
    latents = encoded.movedim(1, -1).flatten(0, -2)
    colours = nn.functional.avg_pool2d(pictures, config.factor).movedim(1, -1).flatten(0, -2)
    given = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    fitted = torch.linalg.lstsq(given, colours).solution
    return {"preview.weight": fitted[:-1].T[..., None, None].contiguous(), "preview.bias": fitted[-1]}
