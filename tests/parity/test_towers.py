"""CLIP's towers against open_clip's and ``transformers``', with the same random weights, float32, to 1e-5."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from services.bundles import towers
from services.clip.config import ModelConfig
from services.clip.network import ImageTower, TextTower
from tests.closeness import assert_within
from tests.parity.test_networks import randomised

TOLERANCE = 1e-5
TEXT: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 11,
    "projection_dim": 24,
    "eos_token_id": 2,  # as the published files have it: the end is the largest token
}
IMAGE: dict[str, Any] = {
    "image_size": 28,
    "patch_size": 7,
    "hidden_size": 48,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "projection_dim": 24,
}


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"], ids=["ViT-L", "ViT-bigG"])
@torch.no_grad()
def test_both_towers_match(activation: str) -> None:
    torch.manual_seed(0)
    text_config = CLIPTextConfig(**TEXT, hidden_act=activation)
    image_config = CLIPVisionConfig(**IMAGE, hidden_act=activation)
    text = randomised(CLIPTextModelWithProjection(text_config))
    image = randomised(CLIPVisionModelWithProjection(image_config))
    shape = towers.model_config(text_config.to_dict(), image_config.to_dict())
    config = ModelConfig.model_validate(shape)
    own = {**towers.text(text.state_dict()), "logit_scale": torch.tensor(3.0)}
    text_tower = TextTower(config)
    text_tower.load_state_dict(own)
    image_tower = ImageTower(config)
    image_tower.load_state_dict(towers.image(image.state_dict()))
    whole = open_clip.CLIP(**shape).eval()
    whole.load_state_dict({**own, **image_tower.state_dict()})
    tokens = torch.randint(1, 58, (3, 11))
    tokens[:, 0] = 58
    for row, end in enumerate((4, 10, 7)):
        tokens[row, end] = 59
        tokens[row, end + 1 :] = 0
    theirs = text(tokens)
    embeddings, states = text_tower(tokens)
    assert_within(embeddings, theirs.text_embeds, TOLERANCE)
    assert_within(embeddings, whole.encode_text(tokens), TOLERANCE)
    assert_within(states, theirs.last_hidden_state, TOLERANCE)
    pixels = torch.randn(2, 3, 28, 28)
    embeds = image(pixels).image_embeds
    assert embeds.std() > 1e-3
    assert_within(image_tower(pixels), embeds, TOLERANCE)
    assert_within(image_tower(pixels), whole.encode_image(pixels), TOLERANCE)


def test_what_is_not_implemented_is_named() -> None:
    text = CLIPTextConfig(**TEXT).to_dict()
    image = CLIPVisionConfig(**IMAGE).to_dict()
    with pytest.raises(ValueError, match="hidden_act: 'relu'"):
        towers.model_config({**text, "hidden_act": "relu"}, image)
    with pytest.raises(ValueError, match="projection_dim: the towers differ"):
        towers.model_config({**text, "projection_dim": 7}, image)
