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


def kandinsky_prior(folder: Path) -> KandinskyV22PriorPipeline:
    """kandinsky-community/kandinsky-2-2-prior."""
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=DIM,
        intermediate_size=4 * DIM,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=DIM,
        hidden_act="gelu",
        eos_token_id=2,
    )
    image = CLIPVisionConfig(
        image_size=28,
        patch_size=14,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        projection_dim=DIM,
        hidden_act="gelu",
    )
    made = KandinskyV22PriorPipeline(
        prior=randomised(
            PriorTransformer(num_attention_heads=4, attention_head_dim=16, num_layers=2, embedding_dim=DIM)
        ),
        image_encoder=randomised(CLIPVisionModelWithProjection(image)),
        text_encoder=randomised(CLIPTextModelWithProjection(text)),
        tokenizer=tokenizer(folder.parent / "vocabulary"),
        scheduler=UnCLIPScheduler(
            prediction_type="sample", clip_sample_range=10.0, variance_type="fixed_small_log"
        ),
        image_processor=CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
    )
    made.save_pretrained(folder)
    # Newer versions write one file instead of the two that the published ones have.
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder.parent / "vocabulary" / name, folder / "tokenizer" / name)
    return made


def kandinsky_decoder(folder: Path, in_channels: int = 4) -> KandinskyV22Pipeline:
    """kandinsky-community/kandinsky-2-2-decoder; in_channels 9: its U-Net for inpainting."""
    unet: UNet2DConditionModel = randomised(unet_reference(in_channels))
    movq: VQModel = randomised(VQModel(**MOVQ, vq_embed_dim=4, num_vq_embeddings=64, norm_type="spatial"))
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


def karlo(folder: Path) -> UnCLIPPipeline:
    """kakaobrain/karlo-v1-alpha, and beside it its image variations."""
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=DIM,
        intermediate_size=4 * DIM,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=DIM,
        hidden_act="quick_gelu",
        eos_token_id=2,
    )
    upsampler: dict[str, Any] = {
        "sample_size": 64,
        "in_channels": 6,
        "out_channels": 3,
        "down_block_types": ("ResnetDownsampleBlock2D",) * 2,
        "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "add_attention": False,
    }
    texts = randomised(CLIPTextModelWithProjection(text))
    projection = randomised(
        UnCLIPTextProjModel(
            clip_extra_context_tokens=4, clip_embeddings_dim=DIM, time_embed_dim=128, cross_attention_dim=48
        )
    )
    parts: dict[str, Any] = {
        "decoder": randomised(decoder_reference()),
        "text_encoder": texts,
        "tokenizer": tokenizer(folder.parent / "vocabulary"),
        "text_proj": projection,
        "super_res_first": randomised(UNet2DModel(**upsampler)),
        "super_res_last": randomised(UNet2DModel(**upsampler)),
        "decoder_scheduler": UnCLIPScheduler(prediction_type="epsilon", variance_type="learned_range"),
        "super_res_scheduler": UnCLIPScheduler(prediction_type="epsilon", variance_type="fixed_small_log"),
    }
    image = CLIPVisionConfig(
        image_size=28,
        patch_size=14,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        projection_dim=DIM,
        hidden_act="quick_gelu",
    )
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    variations = UnCLIPImageVariationPipeline(
        **parts,
        image_encoder=randomised(CLIPVisionModelWithProjection(image)),
        feature_extractor=processor,
    )
    variations.save_pretrained(folder.parent / "variations")
    made = UnCLIPPipeline(
        **parts,
        prior=randomised(
            PriorTransformer(num_attention_heads=4, attention_head_dim=16, num_layers=2, embedding_dim=DIM)
        ),
        prior_scheduler=UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0),
    )
    made.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder.parent / "vocabulary" / name, folder / "tokenizer" / name)
    return made


def seeded() -> None:
    torch.manual_seed(0)
