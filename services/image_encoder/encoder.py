"""CLIP's image tower: a picture to its embedding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from services.bundles.clip import Clip
from services.clip.network import ImageTower


class ImageEncoder:
    """Squashes a picture to the tower's square (antialiased bicubic), normalises it and embeds it."""

    def __init__(self, clip: Clip[ImageTower]) -> None:
        prepared = clip.config.preprocess_cfg
        self._device = clip.device
        self._tower = clip.tower
        self._dtype = next(clip.tower.parameters()).dtype
        self._side = clip.config.model_cfg.vision_cfg.image_size
        self._mean, self._std = (
            torch.tensor(v, device=clip.device)[:, None, None] for v in (prepared.mean, prepared.std)
        )

    @torch.inference_mode()
    def encode(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(H, W, 3) RGB -> (D,), not normalised."""
        pixels = torch.from_numpy(picture.copy()).to(self._device).permute(2, 0, 1)[None].float() / 255
        side = self._side
        if pixels.shape[-2:] != (side, side):
            pixels = F.interpolate(
                pixels, size=(side, side), mode="bicubic", align_corners=False, antialias=True
            ).clamp(0, 1)
        embedding = self._tower(((pixels - self._mean) / self._std).to(self._dtype))[0]
        return embedding.float().cpu().numpy()
