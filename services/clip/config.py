"""``open_clip_config.json``: the shape of both towers, and how pictures are prepared."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# Of the pictures that OpenAI's and LAION's towers were trained on.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class TextConfig(BaseModel):
    """The text tower. context_length: tokens, with start and end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context_length: int = 77
    vocab_size: int = 49408
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0


class ImageConfig(BaseModel):
    """The image tower. image_size and patch_size: sides in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    head_width: int = 64
    layers: int = 12
    mlp_ratio: float = 4.0


class ModelConfig(BaseModel):
    """Both towers. embed_dim: width of the embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    embed_dim: int
    quick_gelu: bool = False
    text_cfg: TextConfig
    vision_cfg: ImageConfig


class PreprocessConfig(BaseModel):
    """How values in [0, 1] are normalised, by channel. Pictures are always squashed to the tower's square."""

    model_config = ConfigDict(frozen=True)

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


class ClipConfig(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_cfg: ModelConfig
    preprocess_cfg: PreprocessConfig = PreprocessConfig()
