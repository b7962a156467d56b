"""The shape of a U-Net."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

NORM_EPS = 1e-5
DETAIL_GROUP = 8  # channels normalised together at full resolution: fewer would each lose their brightness


class UNetConfig(BaseModel):
    """It travels inside the checkpoint.

    in_channels, out_channels: of the picture, before ``patch_size`` folds patches into channels.
    channels: the width of each level. attention: one flag a level.
    context_dim: the width of the context tokens.
    scale_shift: the time embedding scales and shifts (decoder), or is added (upsamplers).
    positions: the picture's side in patches, where each patch's position has a learnt embedding (0: none).
    detail: the width of the layers that refine the prediction at full resolution (0: none).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    layers_per_level: int
    attention: tuple[bool, ...]
    mid_attention: bool
    context_dim: int = 0
    head_dim: int = 64
    groups: int = 32
    patch_size: int = 1
    scale_shift: bool = True
    positions: int = 0
    detail: int = 0

    @model_validator(mode="after")
    def _check(self) -> UNetConfig:
        if len(self.attention) != len(self.channels):
            raise ValueError("attention: one flag a level is needed")
        if (any(self.attention) or self.mid_attention) and not self.context_dim:
            raise ValueError("context_dim: attention needs the width of its context tokens")
        if self.detail % DETAIL_GROUP:
            raise ValueError(f"detail: must be a multiple of {DETAIL_GROUP}")
        return self

    @property
    def time_dim(self) -> int:
        """Width of the time embedding."""
        return 4 * self.channels[0]
