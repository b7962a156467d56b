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
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
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
from tests.parity.test_networks import randomised

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


def seeded() -> None:
    torch.manual_seed(0)
