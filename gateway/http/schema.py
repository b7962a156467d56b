"""What goes over the wire: OpenAI's Images API as of dall-e-2, and our extensions to it.

Parameters that this service has no use for are accepted and do nothing. Unknown ones are refused.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.wire.errors import InvalidInput

MAX_PARTIALS = 3
SIZE_PATTERN = "^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
Format = Literal["png", "jpeg", "webp"]
Count = Annotated[int, Field(ge=1, le=2**32 - 1)]
Seed = Annotated[int, Field(ge=0, le=2**64 - 1)]


class Body(BaseModel):
    """A request. What has no field is refused, by name."""

    model_config = ConfigDict(extra="forbid")


class Common(Body):
    """What all requests for pictures have."""

    model: str | None = Field(
        default=None, description="The served model's name, or dall-e-2.", examples=["dall-e-2"]
    )
    n: Count | None = Field(default=None, description="Pictures to make, 1 to 10; 1 by default.")
    size: str | None = Field(
        default=None,
        description="WIDTHxHEIGHT in px, or auto.",
        examples=["256x256"],
        max_length=32,
        json_schema_extra={"pattern": SIZE_PATTERN},
    )
    response_format: Literal["url", "b64_json"] | None = Field(
        default=None, description="url by default; it is valid for an hour."
    )
    output_format: Format | None = Field(default=None, description="png by default.")
    output_compression: int | None = Field(
        default=None, ge=0, le=100, description="The quality of jpeg and webp, 90 by default."
    )
    user: str | None = Field(default=None, description="Goes into the log as a hash only.", max_length=512)
    seed: Seed | None = Field(default=None, description="Picture i is made from seed + i. Extension.")
    steps: Count | None = Field(default=None, description="Denoising steps of the decoder. Extension.")
    guidance: float | None = Field(
        default=None, allow_inf_nan=False, description="Classifier-free guidance of the decoder. Extension."
    )
    negative_prompt: str | None = Field(
        default=None, description="What the picture should not show. Extension."
    )
    # Of other models; they have no effect here.
    quality: str | None = Field(default=None, description="No effect.", max_length=64)
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        default=None, description="No effect."
    )
    moderation: Literal["auto", "low"] | None = Field(default=None, description="No effect.")
    safety_identifier: str | None = Field(default=None, description="No effect.", max_length=512)


class Streamed(Common):
    """What requests that can be streamed have."""

    stream: bool | None = Field(default=None, description="Answer with server-sent events.")
    partial_images: int | None = Field(
        default=None, ge=0, le=MAX_PARTIALS, description="In a stream: pictures on the way."
    )
    progress: bool | None = Field(
        default=None, description="In a stream: the place in the queue, and steps. Extension."
    )


class Generation(Streamed):
    """POST /v1/images/generations."""

    prompt: str
    style: str | None = Field(default=None, description="No effect.", max_length=64)


class Margins(Body):
    """Px that a picture is extended by on each side."""

    left: int = Field(default=0, ge=0, le=2**32 - 1)
    top: int = Field(default=0, ge=0, le=2**32 - 1)
    right: int = Field(default=0, ge=0, le=2**32 - 1)
    bottom: int = Field(default=0, ge=0, le=2**32 - 1)


class Edit(Streamed):
    """POST /v1/images/edits, beside its files."""

    prompt: str
    outpaint: Margins | None = Field(
        default=None, description='As JSON: {"left": 128}, say, to extend the picture. Extension.'
    )

    @field_validator("outpaint", mode="before")
    @classmethod
    def _parsed(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            raise ValueError('must be JSON, such as {"left": 128}') from None

    input_fidelity: str | None = Field(default=None, description="No effect.", max_length=64)


class Variation(Streamed):
    """POST /v1/images/variations, beside its file."""

    similarity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="From 0, like it in meaning, to 1, the picture itself. Extension.",
    )
    from_text: str | None = Field(default=None, description="What it shows, in words. Extension.")
    to_text: str | None = Field(default=None, description="What it is to show instead. Extension.")
    text_strength: float | None = Field(
        default=None, ge=0, le=1, description="How far from the one to the other. Extension."
    )


class Source(Body):
    """A picture, in base64, or a prompt: one of them."""

    image: str | None = Field(default=None, json_schema_extra={"contentEncoding": "base64"})
    prompt: str | None = None


class MixBody(Streamed):
    """POST /v1/images/mix. Extension."""

    sources: list[Source] = Field(min_length=2, max_length=8)
    weights: list[Annotated[float, Field(allow_inf_nan=False)]] | None = Field(default=None, max_length=8)


class Interpolation(Streamed):
    """POST /v1/images/interpolations. Extension. ``n`` has no meaning; frames says how many pictures."""

    start: Source
    end: Source
    frames: Count = 5


class Embeddings(Body):
    """POST /v1/embeddings."""

    model: str | None = None
    input: str | Annotated[list[str], Field(min_length=1, max_length=64)] = Field(
        description="Texts; or pictures, as data URLs (data:image/png;base64,...). Extension."
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, description="No effect.")
    user: str | None = Field(default=None, max_length=512)


class Image(BaseModel):
    """One picture of an answer."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None
    seed: int | None = Field(default=None, description="Makes this picture again. Extension.")


class Images(BaseModel):
    """An answer with pictures."""

    created: int
    data: list[Image]
    output_format: Format
    size: str
    warnings: list[str] | None = Field(default=None, description="What had no effect. Extension.")


class ModelFacts(BaseModel):
    """What a model can draw, and what requests may ask for."""

    version: str
    sizes: list[int]
    default_size: int
    shape_multiple: int
    default_similarity: float
    default_steps: int
    default_guidance: float
    max_n: int
    max_prompt_characters: int
    max_steps: int
    max_guidance: float
    max_captions: int
    max_picture_bytes: int
    max_picture_pixels: int
    max_result_pixels: int
    max_aspect_ratio: float
    max_frames: int


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    unclip: ModelFacts = Field(description="Sizes, defaults and limits. Extension.")


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class RankedCaption(BaseModel):
    """A caption, its place in the request, and its probability among the request's captions."""

    caption: str
    index: int
    probability: float


class Ranking(BaseModel):
    """Captions, best first."""

    data: list[RankedCaption]


class Embedding(BaseModel):
    """One embedding: numbers, or their little-endian float32 bytes in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Nothing is counted in tokens here."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingList(BaseModel):
    """An embedding for each input."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage = Usage()


class ErrorBody(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """An error."""

    error: ErrorBody


def sides(size: str | None) -> tuple[int, int] | None:
    """(width, height) of a size; None for none, or for auto. Raises InvalidInput."""
    if size is None or size == "auto":
        return None
    if not re.fullmatch(SIZE_PATTERN, size):
        raise InvalidInput(("size", "must be WIDTHxHEIGHT in px, such as 256x256, or auto"))
    width, height = map(int, size.split("x"))
    return width, height
