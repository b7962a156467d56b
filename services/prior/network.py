"""The prior: a causal transformer that predicts a CLIP image embedding (arXiv 2204.06125, section 2.2).

In Karlo's layout it computes what ``diffusers`` calls ``PriorTransformer``; without a timestep, what ECLIPSE
(arXiv 2312.04655) calls so.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from services.diffusion.attention import causal_bias, padding_bias
from services.diffusion.config import DiffusionConfig
from services.diffusion.row_linear import RowLinear
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

    def forward(
        self, x: Tensor, bias: Tensor, earlier: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens after this block, (B, S, width), and their keys and values, (B, heads, S, head_dim).

        x: (B, S, width). bias: (B, 1, S, T), added to the attention logits. earlier: keys and values of T - S
        tokens before these.
        """
        h = self.norm1(x)
        query, key, value = (
            p(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.query, self.key, self.value)
        )
        keys, values = key, value
        if earlier is not None:
            keys, values = (torch.cat(parts, dim=2) for parts in zip(earlier, (key, value), strict=True))
        attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias.to(query.dtype))
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.contract(F.gelu(self.expand(self.norm2(x)))), key, value


class TextMemory(NamedTuple):
    """What the blocks know of texts. They look at nothing that follows, so no step changes it.

    keys, values: (layers, B, heads, S, head_dim). visible: (B, S), false at padding.
    """

    keys: Tensor
    values: Tensor
    visible: Tensor


class Prior(nn.Module):
    """Predicts from a noisy, standardised image embedding, its timestep and the text."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        dim = config.embedding_dim
        length = config.text_tokens + config.extra_tokens
        self.states_in = nn.Linear(dim, width)
        self.text_in, self.image_in = (RowLinear(dim, width) for _ in range(2))
        if config.timed:
            self.time_embed = nn.Sequential(RowLinear(width, width), nn.SiLU(), RowLinear(width, width))
        self.positions = nn.Parameter(nn.init.normal_(torch.empty(length, width), std=0.02))
        self.query_token = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(width)
        self.project = RowLinear(width, dim)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """One evaluation for a batch of rows, each at its own timestep. Returns (B, D), still standardised.

        x: (B, D), noisy and standardised. timesteps: (B,). The rest: as ``read`` takes it.
        """
        return self.predict(x, timesteps, self.read(text, states, mask))

    def read(self, text: Tensor, states: Tensor, mask: Tensor) -> TextMemory:
        """Read texts, once for all of their steps.

        text: (B, D). states: (B, L, D). mask: (B, L), true at real tokens.
        """
        h = torch.cat([self.states_in(states), self.text_in(text)[:, None]], dim=1)
        h = h + self.positions[: h.shape[1]]
        visible = F.pad(mask.bool(), (0, 1), value=True)
        bias = padding_bias(visible, torch.float32) + causal_bias(visible.shape[1], mask.device)
        keys = []
        values = []
        for block in self.blocks:
            h, key, value = block(h, bias)
            keys.append(key)
            values.append(value)
        return TextMemory(torch.stack(keys), torch.stack(values), visible)

    def predict(self, x: Tensor, timesteps: Tensor, memory: TextMemory) -> Tensor:
        """What follows the text: the prediction, (B, D). x, timesteps: as ``forward`` takes them."""
        tokens = [self.image_in(x), self.query_token.to(x.dtype).expand(len(x), -1)]
        if self.config.timed:
            time = self.time_embed(timestep_embedding(timesteps, self.config.width).to(x.dtype))
            tokens.insert(0, time)
        h = torch.stack(tokens, dim=1) + self.positions[-len(tokens) :]
        visible = F.pad(memory.visible, (0, len(tokens)), value=True)
        causal = causal_bias(visible.shape[1], x.device)[-len(tokens) :]
        bias = padding_bias(visible, torch.float32) + causal
        for block, key, value in zip(self.blocks, memory.keys, memory.values, strict=True):
            h, _, _ = block(h, bias, (key, value))
        output: Tensor = self.project(self.norm_out(h[:, -1]))
        return output

    def standardise(self, embedding: Tensor) -> Tensor:
        """A CLIP image embedding to what the network works on."""
        return (embedding - self.mean) / self.std

    def restore(self, x: Tensor) -> Tensor:
        """The inverse of ``standardise``."""
        return x * self.std + self.mean
