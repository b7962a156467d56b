"""Time of day and weather: what they do to a backdrop, to the objects in it, and to the air before them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """A light. phrases: how captions say it.

    gain, object_gain: of each channel, on the backdrop and on objects. haze: the share of ``air`` that is
    mixed into the backdrop; a third of it is mixed into objects, which are nearer. rain: whether it falls.
    """

    name: str
    phrases: tuple[str, ...] = ()
    gain: Colour = (1.0, 1.0, 1.0)
    object_gain: Colour = (1.0, 1.0, 1.0)
    haze: float = 0.0
    air: Colour = (0.82, 0.84, 0.86)
    rain: bool = False

    def on_backdrop(self, picture: Image.Image) -> Image.Image:
        """The lit backdrop, RGB. It is always a new picture."""
        return picture.point(_table(self.gain, self.haze, self.air)) if self.phrases else picture.copy()

    def on_object(self, picture: Image.Image) -> Image.Image:
        """The lit object, RGBA. Its alpha stays."""
        if not self.phrases:
            return picture
        return picture.point([*_table(self.object_gain, self.haze / 3, self.air), *range(256)])

    def in_the_air(self, pixels: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
        """The picture, (side, side, 3), with what falls in front of everything."""
        if not self.rain:
            return pixels
        streaks = _streaks(pixels.shape[0], seed % 16)
        return (pixels + (255 - pixels) * streaks).astype(np.uint8)


def gained(picture: Image.Image, gain: Colour) -> Image.Image:
    """The RGB picture, each channel times its gain."""
    levels = np.arange(256) * np.asarray(gain)[:, None]
    return picture.point(np.clip(levels, 0, 255).round().astype(int).ravel().tolist())


@cache
def _table(gain: Colour, haze: float, air: Colour) -> list[int]:
    """A lookup table of 256 entries for each of R, G, B."""
    levels = np.arange(256) / 255
    lit = [np.clip(levels * g, 0, 1) * (1 - haze) + a * haze for g, a in zip(gain, air, strict=True)]
    return [int(v) for v in (np.concatenate(lit) * 255).round()]


@cache
def _streaks(side: int, seed: int) -> npt.NDArray[np.float32]:
    """How much of a white streak covers each pixel: (side, side, 1)."""
    rng = np.random.default_rng((7, seed))
    canvas = Image.new("L", (256, 256))
    draw = ImageDraw.Draw(canvas)
    for _ in range(70):
        x, y = rng.uniform(-20, 256), rng.uniform(-20, 256)
        length = rng.uniform(14, 30)
        draw.line((x, y, x - 0.25 * length, y + length), fill=150, width=2)
    resampling = Image.Resampling.BOX if side <= canvas.width else Image.Resampling.BICUBIC
    pixels = np.asarray(canvas.resize((side, side), resampling), np.float32)
    return pixels[..., None] / np.float32(255)


DAY = Light("day")
LIGHTS = (
    Light(
        "night",
        ("at night", "in the dark of night", "by night"),
        gain=(0.34, 0.38, 0.62),
        object_gain=(0.68, 0.72, 0.90),
    ),
    Light(
        "evening",
        ("in the evening", "in evening light", "at dusk"),
        gain=(1.10, 0.78, 0.58),
        object_gain=(1.0, 0.87, 0.74),
    ),
    Light(
        "rain",
        ("in the rain", "on a rainy day"),
        gain=(0.72, 0.76, 0.82),
        object_gain=(0.88, 0.9, 0.94),
        haze=0.15,
        rain=True,
    ),
    Light("fog", ("in the fog", "in thick fog", "in the mist"), haze=0.6),
)
