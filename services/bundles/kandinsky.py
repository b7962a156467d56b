"""Kandinsky 2.2 in ``diffusers``' layout to ours: pure functions from state dict to state dict."""

from __future__ import annotations

from torch import Tensor

from services.bundles.karlo import UNET, Renames, State, renamed

AUTOENCODER: Renames = (
    (r"\.(?:down|up)_blocks\.", ".levels."),
    (r"\.mid_block\.", ".mid."),
    (r"\.resnets\.", ".blocks."),
    (r"\.(?:down|up)samplers\.0\.conv\.", ".resampler."),
    (r"\.conv_norm_out\.norm_layer\.", ".norm_out.norm."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".skip."),
    (r"\.group_norm\.", ".norm."),
    (r"\.spatial_norm\.norm_layer\.", ".norm.norm."),
    (r"\.spatial_norm\.", ".norm."),
    (r"\.norm_layer\.", ".norm."),
    (r"\.conv_y\.", ".scale."),
    (r"\.conv_b\.", ".shift."),
    (r"\.to_q\.", ".query."),
    (r"\.to_k\.", ".key."),
    (r"\.to_v\.", ".value."),
    (r"\.to_out\.0\.", ".out."),
    (r"^quant_conv\.", "after_encoder."),
    (r"^post_quant_conv\.", "before_decoder."),
)
CODEBOOK = "quantize.embedding.weight"  # latents are not rounded to it
# What the U-Net's own state dict holds of the conditioning, in ours.
CONDITIONING: Renames = (
    (r"^encoder_hid_proj\.image_embeds\.", "image_to_tokens."),
    (r"^encoder_hid_proj\.norm\.", "tokens_norm."),
    (r"^add_embedding\.image_proj\.", "image_to_time."),
    (r"^add_embedding\.image_norm\.", "time_norm."),
)
PROJECTIONS = ("encoder_hid_proj.", "add_embedding.")


def unet(state: State) -> dict[str, Tensor]:
    """``UNet2DConditionModel``, but for its conditioning, to ``UNet``."""
    return renamed({k: v for k, v in state.items() if not k.startswith(PROJECTIONS)}, UNET)


def conditioning(state: State, null_image: Tensor) -> dict[str, Tensor]:
    """The conditioning of ``UNet2DConditionModel`` to ``ImageConditioning``.

    null_image: (D,), what the image encoder makes of a picture whose every value is 0.
    """
    own = renamed({k: v for k, v in state.items() if k.startswith(PROJECTIONS)}, CONDITIONING)
    return {**own, "null_image": null_image}


def autoencoder(state: State) -> dict[str, Tensor]:
    """``VQModel`` or ``AutoencoderKL`` to ``Autoencoder``."""
    return renamed({key: value for key, value in state.items() if key != CODEBOOK}, AUTOENCODER)
