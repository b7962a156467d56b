"""Kandinsky 2.2's networks against ``diffusers``, with the same random weights, float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, VQModel
from torch import Tensor

from services.bundles import kandinsky
from services.bundles.weights import load_weights
from services.decoder.autoencoder import Autoencoder, AutoencoderConfig
from services.decoder.conditioning import ImageConditioning, ImageConditioningConfig
from services.decoder.unet import UNet
from services.decoder.unet_config import UNetConfig
from tests.parity.test_networks import assert_close, decoder_reference, randomised


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def unet_reference(in_channels: int, **other: Any) -> UNet2DConditionModel:
    """The decoder's U-Net, which is Karlo's with other conditioning, but narrow, or with other widths."""
    settings: dict[str, Any] = {
        "in_channels": in_channels,
        "out_channels": 8,
        "encoder_hid_dim": 40,
        "encoder_hid_dim_type": "image_proj",
        "addition_embed_type": "image",
        "class_embed_type": None,
    }
    return decoder_reference(**settings | other)


@pytest.mark.parametrize("in_channels", [4, 9], ids=["plain", "inpainting"])
@torch.no_grad()
def test_the_decoder_matches(in_channels: int) -> None:
    reference = randomised(unet_reference(in_channels))
    state = reference.state_dict()
    config = UNetConfig(
        in_channels=in_channels,
        out_channels=8,
        channels=(32, 64, 96, 128),
        layers_per_level=3,
        attention=(False, True, True, True),
        mid_attention=True,
        context_dim=48,
        head_dim=32,
    )
    unet = load_weights(UNet(config), kandinsky.unet(state)).eval()
    tokens = state["encoder_hid_proj.image_embeds.weight"].shape[0] // 48
    null = torch.randn(40)
    conditioning = load_weights(
        ImageConditioning(ImageConditioningConfig(embedding_dim=40, image_tokens=tokens), 128, 48),
        kandinsky.conditioning(state, null),
    ).eval()
    x = torch.randn(3, in_channels, 16, 16)
    t = torch.tensor([0, 437, 999])
    image = torch.randn(3, 40)
    theirs = reference(x, t, encoder_hidden_states=None, added_cond_kwargs={"image_embeds": image}).sample
    nothing = torch.empty(0)
    time_extra, context, bias = conditioning(image, nothing, nothing, nothing)
    context = unet.keys_values(context)
    assert_close(unet(x, t, time_extra=time_extra, context=context, context_bias=bias), theirs)
    assert torch.equal(conditioning.null_image, null)


MOVQ: dict[str, Any] = {
    "block_out_channels": (32, 64, 64, 96),
    "down_block_types": (*["DownEncoderBlock2D"] * 3, "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 3),
    "latent_channels": 4,
    "layers_per_block": 2,
}
OURS = AutoencoderConfig(
    channels=(32, 64, 64, 96), layers_per_level=2, attention=(False, False, False, True), latent_channels=4
)


def loaded(config: AutoencoderConfig, state: dict[str, Tensor]) -> Autoencoder:
    """Ours with these weights, and with previews that nothing is compared with."""
    preview = {"preview.weight": torch.zeros(3, 4, 1, 1), "preview.bias": torch.zeros(3)}
    return load_weights(Autoencoder(config), {**kandinsky.autoencoder(state), **preview}).eval()


@torch.no_grad()
def test_movq_matches() -> None:
    reference = randomised(VQModel(**MOVQ, vq_embed_dim=4, num_vq_embeddings=64, norm_type="spatial"))
    config = OURS.model_copy(update={"spatial": True})
    ours = loaded(config, reference.state_dict())
    pictures = torch.rand(2, 3, 64, 48) * 2 - 1
    latents = reference.encode(pictures).latents
    assert_close(ours.encode(pictures), latents)
    assert_close(ours.decode(latents), reference.decode(latents, force_not_quantize=True).sample)


@torch.no_grad()
def test_a_variational_autoencoder_matches() -> None:
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    reference = randomised(AutoencoderKL(**{**MOVQ, **blocks}, scaling_factor=0.18215))
    config = OURS.model_copy(update={"moments": True, "scale": 0.18215, "attention": (False,) * 4})
    ours = loaded(config, reference.state_dict())
    pictures = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = 0.18215 * reference.encode(pictures).latent_dist.mode()
    assert_close(ours.encode(pictures), latents)
    assert_close(ours.decode(latents), reference.decode(latents / 0.18215).sample)
