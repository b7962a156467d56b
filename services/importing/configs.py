"""``config.json`` of ``diffusers``' classes to our configs. What is not implemented is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.bundles.bundle import BundleError
from services.decoder.autoencoder import AutoencoderConfig
from services.decoder.unet_config import UNetConfig
from services.diffusion.config import DiffusionConfig, SamplingConfig, Threshold
from services.prior.network import EXTRA_TOKENS, PriorConfig

Config = Mapping[str, Any]
# What our networks compute, by key; any other value is another network.
UNET = {
    "act_fn": "silu",
    "addition_embed_type": ("image", None),
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": None,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": ("identity", None),
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dropout": 0.0,
    "dual_cross_attention": False,
    "encoder_hid_dim_type": ("image_proj", None),
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": ("UNetMidBlock2DSimpleCrossAttn", None),
    "norm_eps": 1e-5,
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "reverse_transformer_layers_per_block": None,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": 1,
    "upcast_attention": False,
    "use_linear_projection": False,
}
UNET_TAKEN = (
    "attention_head_dim",
    "block_out_channels",
    "cross_attention_dim",
    "down_block_types",
    "encoder_hid_dim",
    "in_channels",
    "layers_per_block",
    "norm_num_groups",
    "out_channels",
    "resnet_time_scale_shift",
    "sample_size",
    "up_block_types",
)
UPSAMPLER = {
    "act_fn": "silu",
    "add_attention": False,
    "attn_norm_num_groups": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_resample": True,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2D",
    "norm_eps": 1e-5,
    "num_class_embeds": None,
    "num_train_timesteps": None,
    "resnet_time_scale_shift": "default",
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "upsample_type": "conv",
}
UPSAMPLER_TAKEN = (
    "attention_head_dim",
    "block_out_channels",
    "down_block_types",
    "in_channels",
    "layers_per_block",
    "norm_num_groups",
    "out_channels",
    "sample_size",
    "up_block_types",
)
PRIOR = {
    "added_emb_type": "prd",
    "clip_embed_dim": None,
    "dropout": 0.0,
    "embedding_proj_dim": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "norm_in_type": None,
    "time_embed_act_fn": "silu",
    "time_embed_dim": None,
}
PRIOR_TAKEN = ("attention_head_dim", "embedding_dim", "num_attention_heads", "num_embeddings", "num_layers")
VQ = {
    "act_fn": "silu",
    "force_upcast": False,
    "in_channels": 3,
    "lookup_from_codebook": False,
    "mid_block_add_attention": True,
    "norm_type": ("spatial", "group"),
    "out_channels": 3,
    "scaling_factor": (0.18215, 1.0),  # which the pipelines of this class do not use
}
VQ_TAKEN = (
    "block_out_channels",
    "down_block_types",
    "latent_channels",
    "layers_per_block",
    "norm_num_groups",
    "num_vq_embeddings",
    "sample_size",
    "up_block_types",
    "vq_embed_dim",
)
SCHEDULER = {
    "beta_schedule": ("squaredcos_cap_v2", "linear"),
    "num_train_timesteps": 1000,
    "prediction_type": ("epsilon", "sample", "v_prediction"),
    "rescale_betas_zero_snr": False,
    "set_alpha_to_one": True,
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "trained_betas": None,
    "variance_type": ("fixed_small_log", "fixed_small", "learned_range"),
}
SCHEDULER_TAKEN = (
    "beta_end",
    "beta_start",
    "clip_sample",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "steps_offset",
    "thresholding",
)
ATTENTION = {
    "SimpleCrossAttnDownBlock2D": True,
    "ResnetDownsampleBlock2D": False,
    "SimpleCrossAttnUpBlock2D": True,
    "ResnetUpsampleBlock2D": False,
}
LATENT_ATTENTION = {
    "AttnDownEncoderBlock2D": True,
    "DownEncoderBlock2D": False,
    "AttnUpDecoderBlock2D": True,
    "UpDecoderBlock2D": False,
}


def require(where: str, config: Config, fixed: Config, taken: tuple[str, ...]) -> None:
    """Raises BundleError for a key that is not known, or a value that is not implemented."""
    for key, value in config.items():
        if key in taken:
            continue
        if key not in fixed:
            raise BundleError(f"{where}: {key} is not known")
        allowed = fixed[key] if isinstance(fixed[key], tuple) else (fixed[key],)
        if value not in allowed:
            named = " or ".join(map(repr, allowed))
            raise BundleError(f"{where}: {key} is {value!r}, which is not implemented; {named} is")


def unet(where: str, config: Config) -> UNetConfig:
    """``UNet2DConditionModel``'s."""
    require(where, config, UNET, UNET_TAKEN)
    channels = tuple(config["block_out_channels"])
    down = _flags(where, config["down_block_types"], ATTENTION)
    up = _flags(where, config["up_block_types"], ATTENTION)
    if down != up[::-1]:
        raise BundleError(f"{where}: up_block_types do not mirror down_block_types")
    shift = config.get("resnet_time_scale_shift", "default")
    if shift not in ("scale_shift", "default"):
        raise BundleError(f"{where}: resnet_time_scale_shift is {shift!r}, which is not implemented")
    return UNetConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        channels=channels,
        layers_per_level=config["layers_per_block"],
        attention=down,
        mid_attention=config.get("mid_block_type") is not None,
        context_dim=config["cross_attention_dim"],
        head_dim=config["attention_head_dim"],
        groups=config.get("norm_num_groups", 32),
        scale_shift=shift == "scale_shift",
    )


def upsampler(where: str, config: Config) -> UNetConfig:
    """``UNet2DModel``'s, of which only levels without attention are implemented."""
    require(where, config, UPSAMPLER, UPSAMPLER_TAKEN)
    if any(_flags(where, (*config["down_block_types"], *config["up_block_types"]), ATTENTION)):
        raise BundleError(f"{where}: attention is not implemented here")
    channels = tuple(config["block_out_channels"])
    return UNetConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        channels=channels,
        layers_per_level=config["layers_per_block"],
        attention=(False,) * len(channels),
        mid_attention=False,
        groups=config.get("norm_num_groups", 32),
        scale_shift=False,
    )


def prior(where: str, config: Config, diffusing: DiffusionConfig, *, timed: bool = True) -> PriorConfig:
    """``PriorTransformer``'s. timed: it takes a timestep; ECLIPSE's, which is called so too, does not."""
    fixed = {key: value for key, value in PRIOR.items() if timed or not key.startswith("time_embed")}
    require(where, config, {**fixed, "additional_embeddings": EXTRA_TOKENS + timed}, PRIOR_TAKEN)
    return PriorConfig(
        timed=timed,
        embedding_dim=config["embedding_dim"],
        text_tokens=config["num_embeddings"],
        layers=config["num_layers"],
        heads=config["num_attention_heads"],
        head_dim=config["attention_head_dim"],
        diffusion=diffusing,
    )


def autoencoder(where: str, config: Config) -> AutoencoderConfig:
    """``VQModel``'s."""
    require(where, config, VQ, VQ_TAKEN)
    down = _flags(where, config["down_block_types"], LATENT_ATTENTION)
    up = _flags(where, config["up_block_types"], LATENT_ATTENTION)
    if down != up[::-1]:
        raise BundleError(f"{where}: up_block_types do not mirror down_block_types")
    if config.get("vq_embed_dim") not in (None, config["latent_channels"]):
        raise BundleError(f"{where}: vq_embed_dim is not latent_channels, which is not implemented")
    return AutoencoderConfig(
        channels=tuple(config["block_out_channels"]),
        layers_per_level=config["layers_per_block"],
        attention=down,
        latent_channels=config["latent_channels"],
        groups=config.get("norm_num_groups", 32),
        spatial=config.get("norm_type", "group") == "spatial",
    )


def diffusion(where: str, kind: str, config: Config, sampling: SamplingConfig) -> DiffusionConfig:
    """``UnCLIPScheduler``'s, ``DDPMScheduler``'s or ``DDIMScheduler``'s. sampling: how it is best sampled."""
    require(where, config, SCHEDULER, SCHEDULER_TAKEN)
    unclip = kind == "UnCLIPScheduler"
    clip = config.get("clip_sample_range", 1.0) if config.get("clip_sample", True) else None
    threshold = None
    if config.get("thresholding", False):
        threshold = Threshold(
            quantile=config.get("dynamic_thresholding_ratio", 0.995), most=config.get("sample_max_value", 1.0)
        )
    linear = not unclip and config.get("beta_schedule", "linear") == "linear"
    prediction = config.get("prediction_type", "epsilon")
    return DiffusionConfig(
        schedule="linear" if linear else "cosine",
        betas=(config.get("beta_start", 1e-4), config.get("beta_end", 0.02)),
        spacing="linspace" if unclip else config.get("timestep_spacing", "leading"),
        offset=config.get("steps_offset", 0),
        prediction="v" if prediction == "v_prediction" else prediction,
        learned_range=config.get("variance_type") == "learned_range",
        clip=clip,
        threshold=threshold,
        sampling=sampling,
    )


def _flags(where: str, kinds: Any, known: Mapping[str, bool]) -> tuple[bool, ...]:
    for kind in kinds:
        if kind not in known:
            raise BundleError(f"{where}: {kind} is not implemented; {', '.join(known)} are")
    return tuple(known[kind] for kind in kinds)
