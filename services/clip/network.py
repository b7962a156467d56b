"""CLIP's towers: transformers from a text, or a picture, to one embedding.

Parameters have the names that open_clip gives them, so that its checkpoints load as they are; they have no
values before that. Training is open_clip's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.clip.config import ModelConfig

Tower = Literal["text", "image"]


class QuickGELU(nn.Module):
    """The sigmoid that OpenAI's towers have in place of a GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Self-attention. causal: a token looks at itself and earlier ones."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, L, width)."""
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projected.view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Pre-norm self-attention and a feed-forward layer."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, activation: Callable[[], nn.Module], *, causal: bool
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, causal=causal)
        self.ln_2 = nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, hidden), "gelu": activation(), "c_proj": nn.Linear(hidden, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, L, width)."""
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """Blocks in a row."""

    def __init__(self, build: Callable[[], Block], layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(build() for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, L, width)."""
        for block in self.resblocks:
            x = block(x)
        return x


def _activation(config: ModelConfig) -> Callable[[], nn.Module]:
    return QuickGELU if config.quick_gelu else nn.GELU


class TextTower(nn.Module):
    """Tokens to an embedding, and to the states that decoder and prior attend to."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        text = config.text_cfg
        build = partial(Block, text.width, text.heads, text.mlp_ratio, _activation(config), causal=True)
        self.token_embedding = nn.Embedding(text.vocab_size, text.width)
        self.positional_embedding = nn.Parameter(torch.empty(text.context_length, text.width))
        self.transformer = Transformer(build, text.layers)
        self.ln_final = nn.LayerNorm(text.width)
        self.text_projection = nn.Parameter(torch.empty(text.width, config.embed_dim))
        self.logit_scale = nn.Parameter(torch.empty(()))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens: (B, L). Returns embeddings (B, D), not normalised, and states (B, L, width), normalised.

        A text ends at its largest token.
        """
        states = self.ln_final(self.transformer(self.token_embedding(tokens) + self.positional_embedding))
        ends = states[torch.arange(len(tokens), device=tokens.device), tokens.argmax(-1)]
        return ends @ self.text_projection, states


class VisionTransformer(nn.Module):
    """Pictures, as patches, to embeddings."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        image = config.vision_cfg
        heads = image.width // image.head_width
        build = partial(Block, image.width, heads, image.mlp_ratio, _activation(config), causal=False)
        patches = (image.image_size // image.patch_size) ** 2
        self.conv1 = nn.Conv2d(3, image.width, image.patch_size, image.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(image.width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + patches, image.width))
        self.ln_pre = nn.LayerNorm(image.width)
        self.transformer = Transformer(build, image.layers)
        self.ln_post = nn.LayerNorm(image.width)
        self.proj = nn.Parameter(torch.empty(image.width, config.embed_dim))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, 3, side, side), prepared. Returns (B, D), not normalised."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        embedding: Tensor = self.ln_post(self.transformer(x)[:, 0]) @ self.proj
        return embedding


class ImageTower(nn.Module):
    """The image tower, under the name that a whole CLIP has it by."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual = VisionTransformer(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, 3, side, side), prepared. Returns (B, D), not normalised."""
        embedding: Tensor = self.visual(pixels)
        return embedding


TOWERS: dict[Tower, Callable[[ModelConfig], nn.Module]] = {"text": TextTower, "image": ImageTower}
