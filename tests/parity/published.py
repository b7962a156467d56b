"""The published networks at their real size: how the reference builds and calls each, and how we do.

Configs are those of kandinsky-community/kandinsky-2-2-*, kakaobrain/karlo-v1-alpha and its towers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from torch import Tensor, nn

from services.bundles.weights import load_network
from services.decoder.autoencoder import Autoencoder
from services.decoder.network import Decoder, DecoderConfig, Upsampler, UpsamplerConfig
from services.importing import configs, kandinsky, karlo
from services.importing.checkpoint import Part, Pipeline
from services.importing.writing import write_prior
from services.prior.network import Prior, PriorConfig

CPU = torch.device("cpu")
CROSS = "SimpleCrossAttn"
LATENTS = 16  # side of latents in these calls: shapes of weights do not depend on it
Inputs = dict[str, Tensor]
Network = Any  # a network of either side; each case knows its own
SCHEDULERS: dict[str, dict[str, Any]] = {
    "prior": {"prediction_type": "sample", "variance_type": "fixed_small_log", "clip_sample_range": 10.0},
    "karlo": {"prediction_type": "epsilon", "variance_type": "learned_range"},
    "raised": {"prediction_type": "epsilon", "variance_type": "fixed_small_log"},
    "kandinsky": {
        "beta_schedule": "linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "variance_type": "learned_range",
        "clip_sample": False,
    },
}
MOVQ: dict[str, Any] = {
    "block_out_channels": (128, 256, 256, 512),
    "down_block_types": (*["DownEncoderBlock2D"] * 3, "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 3),
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_type": "spatial",
    "num_vq_embeddings": 16384,
    "vq_embed_dim": 4,
}
UNET: dict[str, Any] = {
    "down_block_types": ("ResnetDownsampleBlock2D", *[f"{CROSS}DownBlock2D"] * 3),
    "mid_block_type": f"UNetMidBlock2D{CROSS}",
    "up_block_types": (*[f"{CROSS}UpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    "layers_per_block": 3,
    "attention_head_dim": 64,
    "resnet_time_scale_shift": "scale_shift",
}


@dataclass(frozen=True)
class Case:
    """One network.

    build, save, theirs: the reference's; write: its folder to a bundle; load, ours: our own. inputs: of both.
    """

    build: Callable[[], Network]
    save: Callable[[Network, Path], None]
    inputs: Callable[[], Inputs]
    theirs: Callable[[Network, Inputs], Tensor]
    write: Callable[[Path, Path], None]
    load: Callable[[Path], nn.Module]
    ours: Callable[[Network, Inputs], Tensor]


def part(folder: Path, kind: str = "") -> Part:
    return Part(kind, folder)


def scheduler(folder: Path, name: str) -> Part:
    """A scheduler's folder, which is only a config."""
    folder.mkdir(exist_ok=True)
    (folder / "scheduler_config.json").write_text(json.dumps(SCHEDULERS[name]))
    return Part("DDPMScheduler" if name == "kandinsky" else "UnCLIPScheduler", folder)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape)


def saved(network: Network, folder: Path) -> None:
    network.save_pretrained(folder)


def prior(dim: int) -> Case:
    def write(given: Path, bundle: Path) -> None:
        where = scheduler(given / "scheduler", "prior")
        write_prior(part(given), where, kandinsky.PRIOR_SAMPLING, bundle / "prior", torch.float32)

    def load(bundle: Path) -> nn.Module:
        config = PriorConfig.model_validate_json((bundle / "prior/config.json").read_bytes())
        return load_network(lambda: Prior(config), bundle / "prior/model.safetensors", CPU)

    def inputs() -> Inputs:
        mask = torch.arange(77)[None] < torch.tensor([[9], [77]])
        found = {"x": noise(2, dim), "text": noise(2, dim), "states": noise(2, 77, dim), "mask": mask}
        return {**found, "t": torch.tensor([0, 731])}

    return Case(
        build=lambda: PriorTransformer(embedding_dim=dim),
        save=saved,
        inputs=inputs,
        theirs=lambda network, i: (
            network(i["x"], i["t"], i["text"], i["states"], i["mask"]).predicted_image_embedding
        ),
        write=write,
        load=load,
        ours=lambda network, i: network(i["x"], i["t"], i["text"], i["states"], i["mask"]),
    )


def kandinsky_unet(channels: int) -> Case:
    def build() -> Network:
        return UNet2DConditionModel(
            **UNET,
            sample_size=64,
            in_channels=channels,
            out_channels=8,
            block_out_channels=(384, 768, 1152, 1536),
            cross_attention_dim=768,
            encoder_hid_dim=1280,
            encoder_hid_dim_type="image_proj",
            addition_embed_type="image",
        )

    def write(given: Path, bundle: Path) -> None:
        movq = given / "movq"
        movq.mkdir(exist_ok=True)
        (movq / "config.json").write_text(json.dumps(MOVQ))
        where = scheduler(given / "scheduler", "kandinsky")
        pipeline = Pipeline(given, {"unet": part(given), "scheduler": where, "movq": part(movq)})
        kandinsky.write_decoder(pipeline, torch.zeros(1280), bundle / "decoder", torch.float32)

    def ours(network: Network, i: Inputs) -> Tensor:
        nothing = torch.empty(0)
        found: Tensor = network(i["x"], i["t"], None, i["image"], nothing, nothing, nothing)
        return found

    return Case(
        build=build,
        save=saved,
        inputs=lambda: {
            "x": noise(1, channels, LATENTS, LATENTS),
            "image": noise(1, 1280),
            "t": torch.tensor([437]),
        },
        theirs=lambda network, i: (
            network(
                i["x"], i["t"], encoder_hidden_states=None, added_cond_kwargs={"image_embeds": i["image"]}
            ).sample
        ),
        write=write,
        load=_decoder,
        ours=ours,
    )


def _decoder(bundle: Path) -> nn.Module:
    config = DecoderConfig.model_validate_json((bundle / "decoder/config.json").read_bytes())
    return load_network(lambda: Decoder(config), bundle / "decoder/model.safetensors", CPU)


def movq() -> Case:
    def load(bundle: Path) -> nn.Module:
        config = configs.autoencoder("movq", {**MOVQ, "norm_num_groups": 32})
        return load_network(lambda: Autoencoder(config), bundle / "autoencoder/model.safetensors", CPU)

    return Case(
        build=lambda: VQModel(**MOVQ),
        save=saved,
        inputs=lambda: {"latents": noise(1, 4, LATENTS, LATENTS)},
        theirs=lambda network, i: network.decode(i["latents"], force_not_quantize=True).sample,
        write=lambda given, bundle: kandinsky.write_autoencoder(
            part(given), bundle / "autoencoder", torch.float32
        ),
        load=load,
        ours=lambda network, i: network.decode(i["latents"]),
    )


def karlo_decoder() -> Case:
    def build() -> Network:
        unet = UNet2DConditionModel(
            **UNET,
            sample_size=64,
            in_channels=3,
            out_channels=6,
            block_out_channels=(320, 640, 960, 1280),
            cross_attention_dim=1536,
            class_embed_type="identity",
        )
        projection = UnCLIPTextProjModel(
            clip_extra_context_tokens=4,
            clip_embeddings_dim=768,
            time_embed_dim=1280,
            cross_attention_dim=1536,
        )
        return nn.ModuleDict({"decoder": unet, "text_proj": projection})

    def save(network: Network, folder: Path) -> None:
        for name, own in network.items():
            own.save_pretrained(folder / name)

    def theirs(network: Network, i: Inputs) -> Tensor:
        states, added = network["text_proj"](
            image_embeddings=i["image"],
            prompt_embeds=i["text"],
            text_encoder_hidden_states=i["states"],
            do_classifier_free_guidance=False,
        )
        mask = F.pad(i["mask"], (4, 0), value=True)
        found: Tensor = network["decoder"](
            i["x"], i["t"], encoder_hidden_states=states, class_labels=added, attention_mask=mask
        ).sample
        return found

    def write(given: Path, bundle: Path) -> None:
        parts = {
            "decoder": part(given / "decoder"),
            "text_proj": part(given / "text_proj"),
            "decoder_scheduler": scheduler(given / "scheduler", "karlo"),
        }
        karlo.write_decoder(Pipeline(given, parts), bundle / "decoder", torch.float32)

    return Case(
        build=build,
        save=save,
        inputs=lambda: {
            "x": noise(1, 3, 2 * LATENTS, 2 * LATENTS),
            "image": noise(1, 768),
            "text": noise(1, 768),
            "states": noise(1, 77, 768),
            "mask": torch.arange(77)[None] < 12,
            "t": torch.tensor([437]),
        },
        theirs=theirs,
        write=write,
        load=_decoder,
        ours=lambda network, i: network(i["x"], i["t"], None, i["image"], i["text"], i["states"], i["mask"]),
    )


def karlo_upsampler() -> Case:
    def build() -> Network:
        return UNet2DModel(
            sample_size=256,
            in_channels=6,
            out_channels=3,
            down_block_types=("ResnetDownsampleBlock2D",) * 4,
            up_block_types=("ResnetUpsampleBlock2D",) * 4,
            block_out_channels=(320, 640, 960, 1280),
            layers_per_block=3,
            add_attention=False,
        )

    def write(given: Path, bundle: Path) -> None:
        base = given / "decoder"
        base.mkdir(exist_ok=True)
        (base / "config.json").write_text(json.dumps({"sample_size": 64}))
        parts = {
            "super_res_first": part(given),
            "super_res_last": part(given),
            "super_res_scheduler": scheduler(given / "scheduler", "raised"),
            "decoder": part(base),
        }
        karlo.write_upsampler(Pipeline(given, parts), bundle, torch.float32)

    def load(bundle: Path) -> nn.Module:
        folder = bundle / "upsampler-256"
        config = UpsamplerConfig.model_validate_json((folder / "config.json").read_bytes())
        return load_network(lambda: Upsampler(config), folder / "model.safetensors", CPU)

    return Case(
        build=build,
        save=saved,
        inputs=lambda: {"x": noise(1, 3, 64, 64), "low": noise(1, 3, 64, 64), "t": torch.tensor([437])},
        theirs=lambda network, i: network(torch.cat([i["x"], i["low"]], dim=1), i["t"]).sample,
        write=write,
        load=load,
        ours=lambda network, i: network(i["x"], i["t"], i["low"], None),
    )
