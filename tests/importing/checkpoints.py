"""Pipelines with the published layouts, configs and class names, but narrow, with random weights."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    UnCLIPImageVariationPipeline,
    UnCLIPPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from services.diffusion.schedule import make_schedule
from tests.parity.test_kandinsky import MOVQ, unet_reference
from tests.parity.test_networks import decoder_reference, randomised

DIM = 40  # of embeddings; 1280 in the published ones


def tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's own vocabulary, from open_clip's package."""
    folder.mkdir(parents=True, exist_ok=True)
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    known = {special.get(word, word): number for word, number in SimpleTokenizer().encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(known))
    with gzip.open(default_bpe()) as file:
        lines = file.read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]))
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def text_encoder(activation: str, dim: int = DIM, layers: int = 2) -> CLIPTextModelWithProjection:
    """CLIP's text tower, narrow."""
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=dim,
        intermediate_size=4 * dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=dim,
        hidden_act=activation,
        eos_token_id=2,
    )
    return randomised(CLIPTextModelWithProjection(config))


def image_encoder(activation: str, dim: int = DIM) -> CLIPVisionModelWithProjection:
    """CLIP's image tower, narrow."""
    config = CLIPVisionConfig(
        image_size=28,
        patch_size=14,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        projection_dim=dim,
        hidden_act=activation,
    )
    return randomised(CLIPVisionModelWithProjection(config))


def image_processor() -> CLIPImageProcessor:
    """How pictures are prepared for the image tower."""
    return CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})


def prior_network(dim: int = DIM, heads: int = 4, head_dim: int = 16, layers: int = 2) -> PriorTransformer:
    """A prior, narrow."""
    widths = {"num_attention_heads": heads, "attention_head_dim": head_dim, "num_layers": layers}
    return randomised(PriorTransformer(**widths, embedding_dim=dim))


def keep_vocabulary(folder: Path) -> None:
    """Newer versions write one file instead of the two that the published ones have."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder.parent / "vocabulary" / name, folder / "tokenizer" / name)


def kandinsky_prior(
    folder: Path, dim: int = DIM, text_layers: int = 2, **network: int
) -> KandinskyV22PriorPipeline:
    """kandinsky-community/kandinsky-2-2-prior. network: what ``prior_network`` takes."""
    made = KandinskyV22PriorPipeline(
        prior=prior_network(dim, **network),
        image_encoder=image_encoder("gelu", dim),
        text_encoder=text_encoder("gelu", dim, text_layers),
        tokenizer=tokenizer(folder.parent / "vocabulary"),
        scheduler=UnCLIPScheduler(
            prediction_type="sample", clip_sample_range=10.0, variance_type="fixed_small_log"
        ),
        image_processor=image_processor(),
    )
    made.save_pretrained(folder)
    keep_vocabulary(folder)
    return made


def kandinsky_decoder(
    folder: Path,
    in_channels: int = 4,
    movq_channels: tuple[int, ...] = MOVQ["block_out_channels"],
    **unet_widths: Any,
) -> KandinskyV22Pipeline:
    """kandinsky-community/kandinsky-2-2-decoder; in_channels 9: its U-Net for inpainting."""
    unet: UNet2DConditionModel = randomised(unet_reference(in_channels, **unet_widths))
    settings = {**MOVQ, "block_out_channels": movq_channels, "vq_embed_dim": 4, "num_vq_embeddings": 64}
    movq: VQModel = randomised(VQModel(**settings, norm_type="spatial"))
    scheduler: Any = DDPMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        variance_type="learned_range",
        thresholding=True,
        sample_max_value=2.0,
    )
    made = KandinskyV22Pipeline(unet=unet, scheduler=scheduler, movq=movq)
    made.save_pretrained(folder)
    return made


def karlo(
    folder: Path,
    dim: int = DIM,
    *,
    channels: tuple[int, ...] = (32, 64, 96, 128),
    side: int = 16,
    upsampler_channels: tuple[int, ...] = (32, 64),
    text_layers: int = 2,
    **network: int,
) -> UnCLIPPipeline:
    """kakaobrain/karlo-v1-alpha, and beside it its image variations.

    channels, side: of the decoder, whose pictures are raised to four times that. network: what
    ``prior_network`` takes.
    """
    upsampler: dict[str, Any] = {
        "sample_size": 4 * side,
        "in_channels": 6,
        "out_channels": 3,
        "down_block_types": ("ResnetDownsampleBlock2D",) * 2,
        "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
        "block_out_channels": upsampler_channels,
        "layers_per_block": 1,
        "add_attention": False,
    }
    projection = randomised(
        UnCLIPTextProjModel(
            clip_extra_context_tokens=4,
            clip_embeddings_dim=dim,
            time_embed_dim=4 * channels[0],
            cross_attention_dim=48,
        )
    )
    parts: dict[str, Any] = {
        "decoder": randomised(decoder_reference(sample_size=side, block_out_channels=channels)),
        "text_encoder": text_encoder("quick_gelu", dim, text_layers),
        "tokenizer": tokenizer(folder.parent / "vocabulary"),
        "text_proj": projection,
        "super_res_first": randomised(UNet2DModel(**upsampler)),
        "super_res_last": randomised(UNet2DModel(**upsampler)),
        "decoder_scheduler": UnCLIPScheduler(prediction_type="epsilon", variance_type="learned_range"),
        "super_res_scheduler": UnCLIPScheduler(prediction_type="epsilon", variance_type="fixed_small_log"),
    }
    variations = UnCLIPImageVariationPipeline(
        **parts,
        image_encoder=image_encoder("quick_gelu", dim),
        feature_extractor=image_processor(),
    )
    variations.save_pretrained(folder.parent / "variations")
    made = UnCLIPPipeline(
        **parts,
        prior=prior_network(dim, **network),
        prior_scheduler=UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0),
    )
    made.save_pretrained(folder)
    keep_vocabulary(folder)
    return made


def exact(scheduler: UnCLIPScheduler) -> None:
    """Give it our schedule in float64: its own, in float32, loses 5e-4 in 1 - abar_0, which steps amplify."""
    alpha_bar = make_schedule("cosine").alpha_bar
    scheduler.alphas_cumprod = alpha_bar
    scheduler.alphas = alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]])
    scheduler.betas = 1 - scheduler.alphas
    scheduler.one = torch.ones((), dtype=torch.float64)


def seeded() -> None:
    torch.manual_seed(0)
