"""Between image embeddings, along the sphere: their lengths are averaged, their directions are turned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gateway.stages.text_encoder import Embedding, normalised

ROUNDS = 50  # at most, until a mean stands still


def spherical_mean(embeddings: Sequence[Embedding], weights: Sequence[float]) -> Embedding:
    """The weighted mean of (D,) embeddings on the sphere, of two the same as slerp (Buss and Fillmore 2001).

    weights: not negative, not all 0.
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    rows = np.stack(embeddings).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    directions = rows / lengths[:, None]
    mean = shares @ directions
    if np.linalg.norm(mean) < 1e-6:  # they point apart; any way between them is as good
        mean = directions[int(shares.argmax())]
    mean /= np.linalg.norm(mean)
    for _ in range(ROUNDS):
        step = shares @ _logs(mean, directions)
        angle = np.linalg.norm(step)
        if angle < 1e-9:
            break
        mean = np.cos(angle) * mean + np.sin(angle) * step / angle
        mean /= np.linalg.norm(mean)
    return (shares @ lengths * mean).astype(np.float32)


def turned(embedding: Embedding, towards: Embedding, share: float) -> Embedding:
    """The embedding, turned by this share of the way to a direction; as long as before."""
    target = normalised(towards) * np.linalg.norm(embedding)
    return spherical_mean([embedding, target], [1 - share, share])


def _logs(mean: npt.NDArray[np.float64], directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The way from the mean to each direction: (k, D), as long as the angle."""
    cosines = np.clip(directions @ mean, -1.0, 1.0)
    across = directions - cosines[:, None] * mean
    sines = np.linalg.norm(across, axis=1)
    angles = np.arctan2(sines, cosines)
    return across * (angles / np.maximum(sines, 1e-12))[:, None]
