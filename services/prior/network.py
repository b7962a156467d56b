"""The prior: a causal transformer that predicts a CLIP image embedding (arXiv 2204.06125, section 2.2).

In Karlo's layout it computes what ``diffusers`` calls ``PriorTransformer``; without a timestep, what ECLIPSE
(arXiv 2312.04655) calls so.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from services.diffusion.attention import causal_bias, padding_bias
from services.diffusion.config import DiffusionConfig
from services.diffusion.timestep_embedding import timestep_embedding

EXTRA_TOKENS = 3  # text embedding, noisy image embedding, and the one whose output is the prediction


class PriorConfig(BaseModel):
    """The shape of the prior and how it was trained; it travels inside the checkpoint.

    embedding_dim: width of embeddings and of token states, which are equally wide, as in CLIP ViT-L/14.
    text_tokens: length of the text's states. timed: it takes a timestep, as a token. One that does not is no
    diffusion model: its one evaluation of pure noise is the embedding, and there is no guidance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int
    text_tokens: int
    layers: int
    heads: int
    head_dim: int = 64
    timed: bool = True
    diffusion: DiffusionConfig

    @property
    def width(self) -> int:
        """Width of the transformer."""
        return self.heads * self.head_dim

    @property
    def extra_tokens(self) -> int:
        """Tokens beside the text's states."""
        return EXTRA_TOKENS + self.timed


class Block(nn.Module):
    """Pre-norm self-attention and a GELU feed-forward layer."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x: (B, S, width); bias: (B, 1, S, S), added to the attention logits."""
        h = self.norm1(x)
        query, key, value = (
            p(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))


class Prior(nn.Module):
    """Predicts from a noisy, standardised image embedding, its timestep and the text."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        dim = config.embedding_dim
        length = config.text_tokens + config.extra_tokens
        self.states_in, self.text_in, self.image_in = (nn.Linear(dim, width) for _ in range(3))
        if config.timed:
            self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.positions = nn.Parameter(nn.init.normal_(torch.empty(length, width), std=0.02))
        self.query_token = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """One evaluation for a batch of rows, each at its own timestep. Returns (B, D), still standardised.

        x: (B, D), noisy and standardised. timesteps: (B,). text: (B, D). states: (B, L, D).
        mask: (B, L), true at real tokens.
        """
        single = [self.text_in(text), self.image_in(x), self.query_token.to(x.dtype).expand(len(x), -1)]
        if self.config.timed:
            time = self.time_embed(timestep_embedding(timesteps, self.config.width).to(x.dtype))
            single.insert(1, time)
        h = torch.cat([self.states_in(states), torch.stack(single, dim=1)], dim=1) + self.positions
        bias = self._bias(mask)
        for block in self.blocks:
            h = block(h, bias)
        output: Tensor = self.project(self.norm_out(h[:, -1]))
        return output

    def _bias(self, mask: Tensor) -> Tensor:
        """Causal and padding bias together, (B, 1, S, S). The extra tokens are no padding."""
        visible = F.pad(mask.bool(), (0, self.config.extra_tokens), value=True)
        return padding_bias(visible, torch.float32) + causal_bias(visible.shape[1], mask.device)

    def standardise(self, embedding: Tensor) -> Tensor:
        """A CLIP image embedding to what the network works on."""
        return (embedding - self.mean) / self.std

    def restore(self, x: Tensor) -> Tensor:
        """The inverse of ``standardise``."""
        return x * self.std + self.mean
