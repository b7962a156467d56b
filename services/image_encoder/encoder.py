"""CLIP's image tower: a picture to its embedding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from services.bundles.clip import Clip


class ImageEncoder:
    """Squashes a picture to the tower's square (antialiased bicubic), normalises it and embeds it."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._mean, self._std = (
            torch.tensor(v, device=clip.device)[:, None, None] for v in (clip.mean, clip.std)
        )

    @torch.inference_mode()
    def encode(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(H, W, 3) RGB -> (D,), not normalised."""
        pixels = torch.from_numpy(picture.copy()).to(self._clip.device).permute(2, 0, 1)[None].float() / 255
        side = self._clip.side
        if pixels.shape[-2:] != (side, side):
            pixels = F.interpolate(
                pixels, size=(side, side), mode="bicubic", align_corners=False, antialias=True
            ).clamp(0, 1)
        dtype = next(self._clip.model.parameters()).dtype
        encode = self._clip.model.encode_image
        assert callable(encode)
        embedding: torch.Tensor = encode(((pixels - self._mean) / self._std).to(dtype))
        return embedding[0].float().cpu().numpy()
