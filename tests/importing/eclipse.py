"""ECLIPSE's prior, as its authors compute it (github.com/eclipse-t2i/eclipse-inference, MIT)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class PriorTransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """``diffusers``' class of this name, without a timestep. Its name is in its checkpoints' configs."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        num_layers: int = 10,
        embedding_dim: int = 1280,
        num_embeddings: int = 77,
        additional_embeddings: int = 3,
        dropout: float = 0.0,
        norm_in_type: str | None = None,
        embedding_proj_norm_type: str | None = None,
        encoder_hid_proj_type: str | None = "linear",
        added_emb_type: str | None = "prd",
        embedding_proj_dim: int | None = None,
        clip_embed_dim: int | None = None,
    ) -> None:
        super().__init__()
        width = num_attention_heads * attention_head_dim
        length = num_embeddings + additional_embeddings
        self.proj_in, self.embedding_proj, self.encoder_hidden_states_proj = (
            nn.Linear(embedding_dim, width) for _ in range(3)
        )
        self.positional_embedding = nn.Parameter(torch.zeros(1, length, width))
        self.prd_embedding = nn.Parameter(torch.zeros(1, 1, width))
        block = {"dropout": dropout, "activation_fn": "gelu", "attention_bias": True}
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(width, num_attention_heads, attention_head_dim, **block)
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width)
        self.proj_to_clip_embeddings = nn.Linear(width, embedding_dim)
        causal = torch.full([length, length], -10000.0).triu_(1)[None]
        self.register_buffer("causal_attention_mask", causal, persistent=False)
        self.clip_mean = nn.Parameter(torch.zeros(1, embedding_dim))
        self.clip_std = nn.Parameter(torch.zeros(1, embedding_dim))

    def forward(self, noise: Tensor, text: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        single = [self.embedding_proj(text)[:, None], self.proj_in(noise)[:, None]]
        prediction = self.prd_embedding.expand(len(noise), -1, -1)
        hidden = torch.cat([self.encoder_hidden_states_proj(states), *single, prediction], dim=1)
        hidden = hidden + self.positional_embedding
        padded = F.pad((1 - mask.to(hidden.dtype)) * -10000.0, (0, self.config.additional_embeddings))
        bias = padded[:, None] + self.causal_attention_mask
        bias = bias.repeat_interleave(self.config.num_attention_heads, dim=0)
        for block in self.transformer_blocks:
            hidden = block(hidden, attention_mask=bias)
        output: Tensor = self.proj_to_clip_embeddings(self.norm_out(hidden)[:, -1])
        return output
