"""Teach the bundle's text tower to read what people say as it reads what training's captions say.

The tower is its own teacher: what it makes of a caption is what it should make of the same scene in other
words, with the parts in any order and words between them that say nothing. What it makes of captions stays,
so the networks that take its embeddings and token states need not be trained again. Of the states of words
that say nothing it is not taught what they should be; these networks have seen such ones in no caption.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from services.bundles.bundle import sha256
from services.bundles.weights import best_device
from services.clip.tokenizer import Tokenizer
from services.training.data.prefetching import Prefetched
from services.training.data.rewording import Piece, Reworded, load_wordings, reworded
from services.training.data.scenes import sample_scene
from services.training.device import autocast, fast_attention
from services.training.loop import Run, RunConfig, first_draw
from services.training.recipes import clip
from services.training.recipes.clip import WEIGHTS
from services.training.recipes.recipe import Recipe

NAME = "wording"
TAUGHT = "wording.sha256"  # of the weights that the last run to the end wrote
CAPTIONS = 0.6  # share of the batch that is captions, which should be read as before
Encode = Callable[[str], Sequence[int]]
Row = tuple[npt.NDArray[Any], ...]  # of a lesson, each (L,)


class Lesson(NamedTuple):
    """Texts as they are said and as captions have them, and which token should be read as which.

    said, meant: token ids, (B, L). read_as: for each token that is said, the index of one that is meant.
    weight: 1 where there is such a token, else 0; both (B, L).
    """

    said: Tensor
    meant: Tensor
    read_as: Tensor
    weight: Tensor


class Lessons:
    """Batches of them, by their numbers."""

    def __init__(self, tokenizer: Tokenizer, config: RunConfig) -> None:
        self._tokenizer = tokenizer
        self._count = config.batch
        self._wordings = load_wordings()

    def draw(self, number: int) -> Lesson:
        """A batch."""
        rng = np.random.default_rng((4, number))
        rows = [self._row(rng, i < CAPTIONS * self._count) for i in range(self._count)]
        return Lesson(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))

    def _row(self, rng: np.random.Generator, plain: bool) -> Row:
        while True:
            scene = sample_scene(rng)
            if plain:
                caption = [Piece(scene.caption, scene.caption)]
                text = Reworded(caption, caption)
            else:
                text = reworded(rng, scene, self._wordings)
            # What is too long is not cut: it would not say all that is meant.
            tokenizer = self._tokenizer
            row = aligned(text, tokenizer.encode, tokenizer.context_length, tokenizer.ends)
            if row is not None:
                return row


def aligned(text: Reworded, encode: Encode, length: int, ends: tuple[int, int]) -> Row | None:
    """A row of a lesson, or None if it does not fit into ``length`` tokens.

    ends: the ids of a text's start and end.
    """
    start, end = ends
    meant = [start]
    spans = {}
    for piece in text.meant:
        ids = encode(piece.meant or "")
        spans[id(piece)] = range(len(meant), len(meant) + len(ids))
        meant += ids
    said = [start]
    read_as = [0]
    weight = [1.0]
    for piece in text.said:
        ids = encode(piece.said)
        span = spans.get(id(piece), range(0))
        said += ids
        read_as += [_matching(i, len(ids), span) for i in range(len(ids))]
        weight += [1.0 if span else 0.0] * len(ids)
    if max(len(said), len(meant)) >= length:
        return None
    ints = (_padded(ids, length, np.int64) for ids in ([*said, end], [*meant, end], [*read_as, len(meant)]))
    return (*ints, _padded([*weight, 1.0], length, np.float32))


def _matching(index: int, count: int, span: range) -> int:
    """The place in a span of one of ``count`` tokens: the first's is the first, the last's the last."""
    if not span:
        return 0
    return span[-1] if count == 1 else span[round(index * (len(span) - 1) / (count - 1))]


def _padded(values: Sequence[float], length: int, kind: type[np.generic]) -> npt.NDArray[Any]:
    row = np.zeros(length, kind)
    row[: len(values)] = values
    return row


def train(folder: Path, config: RunConfig) -> None:
    """Train the text tower of ``folder/bundle/clip`` on, and write it there.

    What the part was before stays in ``folder/untaught``: a run that goes on, or ended, has the same teacher.
    """
    part = folder / "bundle/clip"
    untaught = _untaught(folder, part)
    teacher, tokenizer = clip.load(untaught.parent)
    student = copy.deepcopy(teacher)
    for parameter in _tower(student):
        parameter.requires_grad_(True)
    lessons = Lessons(tokenizer, config)
    drawn = Prefetched(lessons.draw, config.workers)
    first = first_draw(untaught)

    def loss_of(model: nn.Module, draw: int) -> Tensor:
        lesson = Lesson(*(tensor.to(best_device()) for tensor in drawn.take(first + draw)))
        with torch.no_grad(), autocast():
            embeddings, states = _read(teacher, lesson.meant)
        targets = states.gather(1, lesson.read_as[..., None].expand_as(states))
        with autocast(), fast_attention():
            made, read = _read(model, lesson.said)
        error = (read - targets).square().mean(-1) / states.var()
        of_tokens = (error * lesson.weight).sum() / lesson.weight.sum()
        return of_tokens + (made - embeddings).square().mean() / embeddings.var(0).mean()

    with closing(drawn):
        ema = Run(NAME, student, replace(config, start_from=None), folder).train(loss_of)
    clip.save_weights(ema, part)
    (folder / TAUGHT).write_text(_digest(part))


def _untaught(folder: Path, part: Path) -> Path:
    """The part as it was before it was taught; kept now, if it is not the one that was.

    Then a checkpoint of another part's lessons is removed, too.
    """
    kept = folder / "untaught/clip"
    taught = folder / TAUGHT
    known = [_digest(kept)] if kept.exists() else []
    if taught.exists():
        known.append(taught.read_text())
    if _digest(part) not in known:
        for old in (taught, folder / f"{NAME}.checkpoint.pt"):
            old.unlink(missing_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(part, kept)
    return kept


def _digest(part: Path) -> str:
    return sha256(part / WEIGHTS)


def _tower(model: Any) -> Iterator[nn.Parameter]:
    """The parameters of the text tower."""
    for name, parameter in model.named_parameters():
        if not name.startswith(("visual.", "logit_scale")):
            yield parameter


def _read(model: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The embeddings (B, D) and the states of the tokens (B, L, W) of texts."""
    out = model.forward_intermediates(
        text=tokens, text_indices=1, normalize=False, normalize_intermediates=True
    )
    return out["text_features"].float(), out["text_intermediates"][-1].float()


RECIPE = Recipe(
    train,
    RunConfig(steps=4_000, learning_rate=5e-4, batch=256, warmup=50, ema=0.995, muon=True),
    needs=("clip",),
)
