"""The family that both sides run: Kandinsky 2.2 in its real layout, with 80 million random weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from services.bundles.bundle import ROOT
from tests.importing.checkpoints import image_processor, keep_vocabulary, tokenizer

DIM = 256
CROSS = "SimpleCrossAttn"
PARTS = ("prior", "decoder")


def make(folder: Path) -> None:
    """Write the pipelines of prior and decoder, and the bundle that is imported from them."""
    torch.manual_seed(0)
    _prior(folder / "prior")
    _decoder(folder / "decoder")
    command = [sys.executable, "-m", "gateway.cli", "model", "import", "--name", "peers"]
    paths = [str(folder / part) for part in (*PARTS, "bundle")]
    subprocess.run([*command, *paths], cwd=ROOT, check=True, capture_output=True)


def _prior(folder: Path) -> None:
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=DIM,
        intermediate_size=4 * DIM,
        num_hidden_layers=4,
        num_attention_heads=4,
        projection_dim=DIM,
        hidden_act="gelu",
        eos_token_id=2,
    )
    image = CLIPVisionConfig(
        image_size=28,
        patch_size=14,
        hidden_size=DIM,
        intermediate_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=DIM,
        hidden_act="gelu",
    )
    made = KandinskyV22PriorPipeline(
        prior=PriorTransformer(num_attention_heads=8, attention_head_dim=64, num_layers=6, embedding_dim=DIM),
        image_encoder=CLIPVisionModelWithProjection(image),
        text_encoder=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer(folder.parent / "vocabulary"),
        scheduler=UnCLIPScheduler(
            prediction_type="sample", clip_sample_range=10.0, variance_type="fixed_small_log"
        ),
        image_processor=image_processor(),
    )
    made.save_pretrained(folder)
    keep_vocabulary(folder)


def _decoder(folder: Path) -> None:
    unet = UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        out_channels=8,
        down_block_types=("ResnetDownsampleBlock2D", *[f"{CROSS}DownBlock2D"] * 3),
        mid_block_type=f"UNetMidBlock2D{CROSS}",
        up_block_types=(*[f"{CROSS}UpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
        block_out_channels=(128, 192, 320, 448),
        layers_per_block=2,
        cross_attention_dim=256,
        attention_head_dim=64,
        encoder_hid_dim=DIM,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        resnet_time_scale_shift="scale_shift",
    )
    movq = VQModel(
        block_out_channels=(64, 64, 128, 192),
        down_block_types=(*["DownEncoderBlock2D"] * 3, "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 3),
        latent_channels=4,
        layers_per_block=2,
        vq_embed_dim=4,
        num_vq_embeddings=64,
        norm_type="spatial",
    )
    scheduler = DDPMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        variance_type="learned_range",
        thresholding=True,
        sample_max_value=2.0,
    )
    KandinskyV22Pipeline(unet=unet, scheduler=scheduler, movq=movq).save_pretrained(folder)
