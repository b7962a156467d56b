"""Procedural backdrops: each is a function of a random generator that paints one square picture.

Every painter returns float RGB in [0, 1], shape (SIDE, SIDE, 3). It varies what a person would expect to
vary: horizon, light, colours, texture. No two pictures of a meadow are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

SIDE = 256
Pixels = npt.NDArray[np.floating]
Rng = np.random.Generator


def _colour(rng: Rng, *anchors: tuple[float, float, float], jitter: float = 0.05) -> Pixels:
    """One of the anchor colours, moved a little."""
    base = np.asarray(anchors[rng.integers(len(anchors))], np.float32)
    return np.clip(base + rng.uniform(-jitter, jitter, 3), 0, 1).astype(np.float32)


def _gradient(top: Pixels, bottom: Pixels, rows: int = SIDE) -> Pixels:
    t = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - t) + bottom * t, (rows, SIDE, 3)).copy()


def _noise(rng: Rng, cells: int, stretch: int = 1) -> Pixels:
    """Smooth value noise in [-1, 1], shape (SIDE, SIDE, 1); ``stretch`` > 1 makes horizontal streaks."""
    grid = rng.uniform(-1, 1, (cells, max(cells // stretch, 2))).astype(np.float32)
    picture = Image.fromarray(grid, mode="F").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(picture, np.float32), -1, 1)[..., None]


def _horizon(rng: Rng, low: float, high: float) -> int:
    return int(SIDE * rng.uniform(low, high))


def _land(
    rng: Rng, sky: tuple[Pixels, Pixels], ground: tuple[Pixels, Pixels], horizon: int, grain: float
) -> Pixels:
    """Sky over ground with a textured ground; each pair is (upper colour, lower colour)."""
    picture = np.concatenate([_gradient(*sky, horizon), _gradient(*ground, SIDE - horizon)])
    texture = _noise(rng, 24, 2) * grain + _noise(rng, 64) * grain * 0.6
    picture[horizon:] += texture[horizon:]
    return picture


def _draw(picture: Pixels, blur: float, shapes: Callable[[ImageDraw.ImageDraw], None]) -> Pixels:
    """Draw vector shapes over a picture, then soften the whole."""
    canvas = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    shapes(ImageDraw.Draw(canvas))
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(blur)), np.float32) / 255


def _ink(colour: Pixels) -> tuple[int, int, int]:
    r, g, b = (int(255 * c) for c in np.clip(colour, 0, 1))
    return r, g, b


def _day_sky(rng: Rng) -> tuple[Pixels, Pixels]:
    top = _colour(rng, (0.30, 0.58, 0.92), (0.38, 0.68, 0.95))
    return top, np.clip(top + 0.3, 0, 1)


def meadow(rng: Rng) -> Pixels:
    """Grass with flowers under a sky."""
    horizon = _horizon(rng, 0.35, 0.6)
    green = _colour(rng, (0.42, 0.72, 0.25), (0.35, 0.66, 0.22))
    picture = _land(rng, _day_sky(rng), (green + 0.08, green - 0.12), horizon, 0.05)
    ink = _ink(_colour(rng, (0.98, 0.9, 0.4), (0.98, 0.98, 0.98), (0.95, 0.6, 0.75)))

    def flowers(draw: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(10, 40)):
            x, y = rng.uniform(0, SIDE), rng.uniform(horizon + 8, SIDE)
            r = 1.5 + 3 * (y - horizon) / SIDE
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    return _draw(picture, 0.6, flowers)


def beach(rng: Rng) -> Pixels:
    """Sand, a line of surf, the sea and a sky."""
    horizon = _horizon(rng, 0.25, 0.4)
    shore = _horizon(rng, 0.48, 0.62)
    sand = _colour(rng, (0.93, 0.82, 0.58), (0.90, 0.77, 0.52))
    picture = _land(rng, _day_sky(rng), (sand, sand - 0.06), horizon, 0.03)
    sea = _colour(rng, (0.10, 0.55, 0.75), (0.12, 0.62, 0.72))
    picture[horizon:shore] = _gradient(sea, sea + 0.15, shore - horizon)
    picture[shore : shore + 6] = 0.95
    return _draw(picture, 1.2, lambda draw: None)


def snow(rng: Rng) -> Pixels:
    """A white field, with flakes."""
    horizon = _horizon(rng, 0.35, 0.6)
    sky = _colour(rng, (0.70, 0.78, 0.88), (0.62, 0.74, 0.88))
    white = _colour(rng, (0.93, 0.95, 0.99), jitter=0.02)
    picture = _land(rng, (sky, sky + 0.1), (white, white - 0.08), horizon, 0.02)

    def flakes(draw: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(30, 80)):
            x, y = rng.uniform(0, SIDE), rng.uniform(0, SIDE)
            r = rng.uniform(1, 3.5)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))

    return _draw(picture, 0.8, flakes)


def night_sky(rng: Rng) -> Pixels:
    """Stars in the dark."""
    top = _colour(rng, (0.02, 0.03, 0.14), (0.06, 0.03, 0.18), jitter=0.02)
    picture = _gradient(top, top + np.float32(0.12)) + np.maximum(_noise(rng, 5), 0) * 0.08

    def stars(draw: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(40, 110)):
            x, y = rng.uniform(0, SIDE), rng.uniform(0, SIDE)
            r = rng.uniform(0.7, 2.4)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 235))

    return _draw(picture, 0.5, stars)


def desert(rng: Rng) -> Pixels:
    """Sand with the crests of dunes."""
    horizon = _horizon(rng, 0.35, 0.55)
    sky = _colour(rng, (0.95, 0.72, 0.45), (0.98, 0.80, 0.55))
    sand = _colour(rng, (0.85, 0.52, 0.25), (0.80, 0.46, 0.22))
    picture = _land(rng, (sky - 0.05, sky + 0.08), (sand, sand - 0.1), horizon, 0.03)
    phase = rng.uniform(0, 6)
    crest = _ink(sand - 0.14)

    def dunes(draw: ImageDraw.ImageDraw) -> None:
        for base in (0.12, 0.3):
            xs = np.linspace(0, SIDE, 40)
            ys = horizon + SIDE * base + 12 * np.sin(xs / 40 + phase + base * 20)
            draw.line([(float(x), float(y)) for x, y in zip(xs, ys, strict=True)], fill=crest, width=5)

    return _draw(picture, 2.0, dunes)


def ocean(rng: Rng) -> Pixels:
    """Waves under a sky."""
    horizon = _horizon(rng, 0.2, 0.4)
    sea = _colour(rng, (0.05, 0.32, 0.62), (0.06, 0.40, 0.62))
    picture = _land(rng, _day_sky(rng), (sea + 0.1, sea - 0.1), horizon, 0.0)
    waves = np.maximum(_noise(rng, 48, 8), 0.2) - 0.2
    picture[horizon:] += 0.45 * waves[horizon:]
    return _draw(picture, 0.8, lambda draw: None)


def city_street(rng: Rng) -> Pixels:
    """Houses with lit windows behind a road."""
    ground = _horizon(rng, 0.58, 0.72)
    asphalt = _colour(rng, (0.33, 0.33, 0.36), (0.40, 0.39, 0.41), jitter=0.03)
    picture = _land(rng, _day_sky(rng), (asphalt, asphalt - 0.08), ground, 0.02)
    walls = ((0.65, 0.45, 0.40), (0.55, 0.58, 0.65), (0.75, 0.68, 0.55), (0.50, 0.42, 0.48))

    def street(draw: ImageDraw.ImageDraw) -> None:
        x = -rng.uniform(0, 30)
        while x < SIDE:
            width = rng.uniform(35, 70)
            top = ground - rng.uniform(60, 150)
            draw.rectangle((x, top, x + width, ground), fill=_ink(_colour(rng, *walls)))
            for wx in np.arange(x + 6, x + width - 8, 14):
                for wy in np.arange(top + 8, ground - 10, 18):
                    draw.rectangle(
                        (wx, wy, wx + 7, wy + 10),
                        fill=(250, 235, 170) if rng.random() < 0.5 else (60, 70, 95),
                    )
            x += width
        middle = (ground + SIDE) / 2
        for dash in np.arange(-rng.uniform(0, 40), SIDE, 50):
            draw.rectangle((dash, middle, dash + 28, middle + 6), fill=(240, 235, 200))

    return _draw(picture, 0.7, street)


def wooden_table(rng: Rng) -> Pixels:
    """Planks, seen from above."""
    wood = _colour(rng, (0.62, 0.40, 0.22), (0.70, 0.48, 0.28), (0.50, 0.31, 0.17))
    picture = _gradient(wood + 0.05, wood - 0.05) + _noise(rng, 96, 16) * 0.06
    seam = _ink(wood - 0.2)
    step = rng.uniform(36, 60)

    def planks(draw: ImageDraw.ImageDraw) -> None:
        for y in np.arange(rng.uniform(0, step), SIDE, step):
            draw.rectangle((0, y, SIDE, y + 2.5), fill=seam)

    return _draw(picture, 0.8, planks)


def plain_wall(rng: Rng) -> Pixels:
    """One pale colour."""
    wall = _colour(
        rng, (0.92, 0.78, 0.80), (0.72, 0.86, 0.80), (0.80, 0.76, 0.90), (0.93, 0.90, 0.80), jitter=0.04
    )
    shade = rng.uniform(0.0, 0.12)
    return _gradient(wall + 0.03, wall - np.float32(shade)) + _noise(rng, 3) * 0.02


def brick_wall(rng: Rng) -> Pixels:
    """Rows of bricks with mortar between."""
    brick = _colour(rng, (0.66, 0.28, 0.22), (0.58, 0.24, 0.20))
    picture = _gradient(np.full(3, 0.78, np.float32), np.full(3, 0.70, np.float32))
    height = rng.uniform(18, 26)

    def bricks(draw: ImageDraw.ImageDraw) -> None:
        for row, y in enumerate(np.arange(-height * rng.random(), SIDE, height)):
            for x in np.arange(-height * (1 + row % 2), SIDE, height * 2):
                ink = _ink(brick + np.float32(rng.uniform(-0.06, 0.06)))
                draw.rectangle((x, y, x + height * 2 - 4, y + height - 4), fill=ink)

    return _draw(picture, 0.6, bricks)


def forest(rng: Rng) -> Pixels:
    """Trunks and leaves over moss."""
    ground = _horizon(rng, 0.65, 0.8)
    moss = _colour(rng, (0.22, 0.38, 0.16), (0.28, 0.36, 0.15))
    air = _colour(rng, (0.30, 0.48, 0.32), (0.24, 0.42, 0.30))
    picture = _land(rng, (air - 0.12, air + 0.1), (moss, moss - 0.08), ground, 0.05)

    def trunks(draw: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(7, 13)):
            x = rng.uniform(0, SIDE)
            w = rng.uniform(8, 22)
            ink = _ink(_colour(rng, (0.26, 0.17, 0.10), (0.20, 0.14, 0.10)))
            draw.rectangle((x, 0, x + w, ground + rng.uniform(-6, 14)), fill=ink)
        for _ in range(40):
            x, y = rng.uniform(0, SIDE), rng.uniform(0, 60)
            r = rng.uniform(10, 26)
            ink = _ink(_colour(rng, (0.13, 0.36, 0.14), (0.18, 0.44, 0.16)))
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    return _draw(picture, 1.0, trunks)


def sunset(rng: Rng) -> Pixels:
    """A glowing sky over hills."""
    horizon = _horizon(rng, 0.6, 0.8)
    top = _colour(rng, (0.38, 0.16, 0.45), (0.50, 0.18, 0.42))
    glow = _colour(rng, (0.99, 0.55, 0.25), (0.98, 0.45, 0.35))
    picture = _gradient(top, glow, SIDE)
    hills = _ink(_colour(rng, (0.16, 0.08, 0.20), (0.20, 0.10, 0.16), jitter=0.03))
    phase = rng.uniform(0, 6)

    def ridge(draw: ImageDraw.ImageDraw) -> None:
        xs = np.linspace(0, SIDE, 50)
        ys = horizon + 10 * np.sin(xs / 35 + phase) + 5 * np.sin(xs / 13 + 2 * phase)
        draw.polygon(
            [(0.0, float(SIDE)), *zip(xs.tolist(), ys.tolist(), strict=True), (float(SIDE), float(SIDE))],
            fill=hills,
        )

    return _draw(picture, 1.0, ridge)
