"""How the decoder is told what to draw (arXiv 2204.06125, section 2.1).

The image embedding is added to the time embedding, and is projected to context tokens that stand before the
text's. In Karlo's layout this is ``UnCLIPTextProjModel``. Kandinsky's decoder takes the image embedding
alone: ``ImageProjection`` and ``ImageTimeEmbedding``.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from services.diffusion.attention import padding_bias


class ConditioningConfig(BaseModel):
    """Widths of what comes in, and the number of tokens made of it.

    embedding_dim: of image and text embeddings. text_dim: of the text's token states. image_tokens: context
    tokens that an image embedding becomes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int
    text_dim: int
    image_tokens: int = 4


class Conditioning(nn.Module):
    """Projects embeddings and token states to what the U-Net takes: (time_extra, context, context_bias)."""

    def __init__(self, config: ConditioningConfig, time_dim: int, context_dim: int) -> None:
        super().__init__()
        self.config = config
        self.null_image = nn.Parameter(torch.zeros(config.embedding_dim))
        self.image_to_time = nn.Linear(config.embedding_dim, time_dim)
        self.text_to_time = nn.Linear(config.embedding_dim, time_dim)
        self.image_to_tokens = nn.Linear(config.embedding_dim, config.image_tokens * context_dim)
        self.text_to_context = nn.Linear(config.text_dim, context_dim)
        self.text_norm = nn.LayerNorm(context_dim)

    def forward(
        self, image: Tensor, text: Tensor, states: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Project a batch; it does not change from step to step.

        image, text: (B, embedding_dim). states: (B, L, text_dim). mask: (B, L), true at real tokens.
        Returns time_extra (B, time_dim), context (B, image_tokens + L, context_dim), and context_bias
        (B, 1, 1, image_tokens + L).
        """
        time_extra = self.text_to_time(text) + self.image_to_time(image)
        # Karlo's order: the token index varies fastest in the projection's output.
        tokens = self.image_to_tokens(image).unflatten(-1, (-1, self.config.image_tokens)).transpose(1, 2)
        context = torch.cat([tokens, self.text_norm(self.text_to_context(states))], dim=1)
        visible = torch.cat([mask.new_ones(len(mask), self.config.image_tokens), mask], dim=1)
        return time_extra, context, padding_bias(visible, context.dtype)


class ImageConditioningConfig(BaseModel):
    """As ``ConditioningConfig``, of a decoder that takes no text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int
    image_tokens: int


class ImageConditioning(nn.Module):
    """Projects an image embedding to what the U-Net takes. Texts are left aside."""

    def __init__(self, config: ImageConditioningConfig, time_dim: int, context_dim: int) -> None:
        super().__init__()
        self.config = config
        self.null_image = nn.Parameter(torch.zeros(config.embedding_dim))
        self.image_to_time = nn.Linear(config.embedding_dim, time_dim)
        self.time_norm = nn.LayerNorm(time_dim)
        self.image_to_tokens = nn.Linear(config.embedding_dim, config.image_tokens * context_dim)
        self.tokens_norm = nn.LayerNorm(context_dim)

    def forward(
        self, image: Tensor, text: Tensor, states: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As ``Conditioning``; the context is image_tokens long."""
        del text, states, mask
        time_extra: Tensor = self.time_norm(self.image_to_time(image))
        context = self.tokens_norm(self.image_to_tokens(image).unflatten(-1, (self.config.image_tokens, -1)))
        return time_extra, context, context.new_zeros(len(image), 1, 1, self.config.image_tokens)


def conditioning_of(
    config: ConditioningConfig | ImageConditioningConfig, time_dim: int, context_dim: int
) -> Conditioning | ImageConditioning:
    """The module that a config describes."""
    if isinstance(config, ImageConditioningConfig):
        return ImageConditioning(config, time_dim, context_dim)
    return Conditioning(config, time_dim, context_dim)
