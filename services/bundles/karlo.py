"""Karlo's layout (as ``diffusers`` stores it) to ours: pure functions from state dict to state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

Renames = Sequence[tuple[str, str]]
State = Mapping[str, Tensor]

UNET: Renames = (
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^conv_norm_out\.", "norm_out."),
    (r"^down_blocks\.", "down."),
    (r"^mid_block\.", "mid."),
    (r"^up_blocks\.", "up."),
    (r"\.resnets\.", ".blocks."),
    (r"\.(?:down|up)samplers\.0\.", ".resampler."),
    (r"\.time_emb_proj\.", ".time."),
    (r"\.conv_shortcut\.", ".skip."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_q\.", ".query."),
    (r"\.to_k\.", ".key."),
    (r"\.to_v\.", ".value."),
    (r"\.to_out\.0\.", ".out."),
    (r"\.add_k_proj\.", ".context_key."),
    (r"\.add_v_proj\.", ".context_value."),
)
PRIOR: Renames = (
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^proj_in\.", "image_in."),
    (r"^embedding_proj\.", "text_in."),
    (r"^encoder_hidden_states_proj\.", "states_in."),
    (r"^positional_embedding$", "positions"),
    (r"^prd_embedding$", "query_token"),
    (r"^transformer_blocks\.", "blocks."),
    (r"\.norm3\.", ".norm2."),
    (r"\.attn1\.to_q\.", ".query."),
    (r"\.attn1\.to_k\.", ".key."),
    (r"\.attn1\.to_v\.", ".value."),
    (r"\.attn1\.to_out\.0\.", ".out."),
    (r"\.ff\.net\.0\.proj\.", ".expand."),
    (r"\.ff\.net\.2\.", ".contract."),
    (r"^proj_to_clip_embeddings\.", "project."),
    (r"^clip_mean$", "mean"),
    (r"^clip_std$", "std"),
)
CONDITIONING: Renames = (
    (r"^learned_classifier_free_guidance_embeddings$", "null_image"),
    (r"^embedding_proj\.", "text_to_time."),
    (r"^clip_image_embeddings_project_to_time_embeddings\.", "image_to_time."),
    (r"^clip_extra_context_tokens_proj\.", "image_to_tokens."),
    (r"^encoder_hidden_states_proj\.", "text_to_context."),
    (r"^text_encoder_hidden_states_norm\.", "text_norm."),
)
SQUEEZED = ("positions", "query_token", "mean", "std")


def unet(state: State) -> dict[str, Tensor]:
    """``UNet2DConditionModel`` (decoder) or ``UNet2DModel`` (upsamplers) to ``UNet``."""
    return renamed(state, UNET)


def prior(state: State) -> dict[str, Tensor]:
    """``PriorTransformer`` to ``Prior``.

    Its causal mask is left out: ours is computed. Leading axes of length one are dropped.
    """
    own = renamed({key: value for key, value in state.items() if key != "causal_attention_mask"}, PRIOR)
    squeezed = {name: own[name].squeeze() for name in SQUEEZED if name in own}
    return {**own, **squeezed}


def conditioning(state: State) -> dict[str, Tensor]:
    """``UnCLIPTextProjModel`` to ``Conditioning``."""
    return renamed(state, CONDITIONING)


def renamed(state: State, renames: Renames) -> dict[str, Tensor]:
    """The tensors under their new names: every pattern is replaced, in its order."""
    result = {}
    for key, value in state.items():
        for pattern, replacement in renames:
            key = re.sub(pattern, replacement, key)
        result[key] = value
    return result
