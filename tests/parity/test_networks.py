"""Our networks against the reference implementations, with the same random weights in the reference's layout.

float32; the largest absolute difference must be at most 1e-4.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from torch import Tensor

from services.bundles import karlo
from services.bundles.weights import load_weights
from services.decoder.conditioning import Conditioning, ConditioningConfig
from services.decoder.unet import UNet
from services.decoder.unet_config import UNetConfig
from services.diffusion.attention import padding_bias
from services.diffusion.config import DiffusionConfig
from services.prior.network import Prior, PriorConfig
from tests.closeness import assert_within

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def randomised(network: Any) -> Any:
    """Norms and biases too: a fresh network's ones and zeros would hide a swapped weight."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert theirs.std() > 1e-3
    assert_within(ours, theirs, TOLERANCE)


def decoder_reference(**other: Any) -> UNet2DConditionModel:
    """Karlo's decoder, but narrow, or with other widths."""
    cross = "SimpleCrossAttn"
    settings: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 6,
        "down_block_types": ("ResnetDownsampleBlock2D", *[f"{cross}DownBlock2D"] * 3),
        "mid_block_type": f"UNetMidBlock2D{cross}",
        "up_block_types": (*[f"{cross}UpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
        "block_out_channels": (32, 64, 96, 128),
        "layers_per_block": 3,
        "cross_attention_dim": 48,
        "attention_head_dim": 32,
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
        "only_cross_attention": False,
    }
    return UNet2DConditionModel(**settings | other)


OUR_DECODER = UNetConfig(
    in_channels=3,
    out_channels=6,
    channels=(32, 64, 96, 128),
    layers_per_level=3,
    attention=(False, True, True, True),
    mid_attention=True,
    context_dim=48,
    head_dim=32,
)


@torch.no_grad()
def test_decoder_unet_matches_diffusers() -> None:
    reference = randomised(decoder_reference())
    ours = load_weights(UNet(OUR_DECODER), karlo.unet(reference.state_dict())).eval()
    x = torch.randn(3, 3, 16, 16)
    t = torch.tensor([0, 437, 999])
    context = torch.randn(3, 11, 48)
    time_extra = torch.randn(3, 128)
    keep = torch.ones(3, 11)
    keep[1, 7:] = 0
    keep[2, 5:] = 0
    bias = padding_bias(keep, torch.float32)
    theirs = reference(
        x, t, encoder_hidden_states=context, class_labels=time_extra, attention_mask=keep
    ).sample
    mine = ours(x, t, time_extra=time_extra, context=ours.keys_values(context), context_bias=bias)
    assert_close(mine, theirs)


@torch.no_grad()
def test_upsampler_unet_matches_diffusers() -> None:
    reference = randomised(
        UNet2DModel(
            sample_size=32,
            in_channels=6,
            out_channels=3,
            down_block_types=("ResnetDownsampleBlock2D",) * 3,
            up_block_types=("ResnetUpsampleBlock2D",) * 3,
            block_out_channels=(32, 64, 96),
            layers_per_block=3,
            add_attention=False,
        )
    )
    config = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=(32, 64, 96),
        layers_per_level=3,
        attention=(False,) * 3,
        mid_attention=False,
        scale_shift=False,
    )
    ours = load_weights(UNet(config), karlo.unet(reference.state_dict())).eval()
    x = torch.randn(2, 6, 32, 32)
    t = torch.tensor([3, 900])
    assert_close(ours(x, t), reference(x, t).sample)


@torch.no_grad()
def test_conditioning_matches_diffusers() -> None:
    reference = randomised(
        UnCLIPTextProjModel(
            clip_extra_context_tokens=4, clip_embeddings_dim=24, time_embed_dim=40, cross_attention_dim=48
        )
    )
    config = ConditioningConfig(embedding_dim=24, text_dim=24)
    ours = load_weights(
        Conditioning(config, time_dim=40, context_dim=48), karlo.conditioning(reference.state_dict())
    ).eval()
    image = torch.randn(2, 24)
    text = torch.randn(2, 24)
    states = torch.randn(2, 7, 24)
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    time_extra, context, bias = ours(image, text, states, mask)
    their_context, their_time = reference(
        image_embeddings=image,
        prompt_embeds=text,
        text_encoder_hidden_states=states,
        do_classifier_free_guidance=False,
    )
    assert_close(time_extra, their_time)
    assert_close(context, their_context)
    assert bias.shape == (2, 1, 1, 11)
    assert (bias[1, 0, 0] < 0).tolist() == [False] * 7 + [True] * 4


@torch.no_grad()
def test_prior_matches_diffusers() -> None:
    reference = randomised(
        PriorTransformer(
            num_attention_heads=4,
            attention_head_dim=16,
            num_layers=3,
            embedding_dim=24,
            num_embeddings=9,
            additional_embeddings=4,
        )
    )
    config = PriorConfig(
        embedding_dim=24,
        text_tokens=9,
        layers=3,
        heads=4,
        head_dim=16,
        diffusion=DiffusionConfig(prediction="sample"),
    )
    ours = load_weights(Prior(config), karlo.prior(reference.state_dict())).eval()
    x = torch.randn(3, 24)
    text = torch.randn(3, 24)
    states = torch.randn(3, 9, 24)
    t = torch.tensor([0, 500, 999])
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 4:] = False
    mask[2, 1:] = False
    theirs = reference(
        x, t, proj_embedding=text, encoder_hidden_states=states, attention_mask=mask
    ).predicted_image_embedding
    assert_close(ours(x, t, text, states, mask), theirs)
    latents = torch.randn(2, 24)
    assert_close(ours.restore(latents), reference.post_process_latents(latents))
    assert_close(ours.standardise(ours.restore(latents)), latents)
