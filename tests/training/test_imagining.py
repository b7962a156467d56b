"""What the prior imagines of captions, for the decoder's training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from services.training.data.corpus import scene_at
from services.training.data.scenes import render
from services.training.recipes.embedder import Embedder
from services.training.recipes.imagining import Imagination

MODELS = Path(__file__).parents[2] / "models"
COUNT = 32


def test_what_is_imagined_of_a_caption_is_nearest_to_its_picture() -> None:
    scenes = [scene_at(i) for i in range(COUNT)]
    embedder = Embedder(MODELS)
    pictures = embedder.image(np.stack([render(scene, 64) for scene in scenes]))
    text = embedder.text([scene.caption for scene in scenes])
    imagined = Imagination(MODELS).image(text, embedder.text([""]), torch.Generator().manual_seed(0))
    mean = pictures.mean(0)
    cosines = F.normalize(imagined - mean, dim=1) @ F.normalize(pictures - mean, dim=1).T
    nearest = (cosines.argmax(1).cpu() == torch.arange(COUNT)).float().mean()
    assert float(nearest) > 0.6  # by chance 0.03
