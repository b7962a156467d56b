"""Figures of pictures that are painted into holes and past borders, at the sizes that people have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from services.editing.canvas import Canvas, Margins
from services.training.data.placing import Placement
from services.training.data.scenes import Scene, render
from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import Figure
from services.training.evaluation.painter import Pictures
from services.training.evaluation.sharpness import (
    EDGE_WIDTH,
    TONE_WIDTH,
    border_ranks,
    hole_ranks,
    texture_ratio,
)

Ranks = dict[str, list[float]]  # of borders, by what is seen of them
Hole = npt.NDArray[np.bool_]  # (side, side), true where it is to be painted
SIDES = (512, 1024)
SHARES = (0.02, 0.05, 0.15, 0.3)  # of the picture's area
EACH = 8  # a part of the pictures of other figures is painted for each size, share and shape
SHOWN = 3  # pictures of each on a sheet
HIDDEN = np.uint8(128)  # how a hole is shown
PROBED = 256  # px of a square, of which it is found how much a shape covers
LOOKED_AT = 1.6  # the judge's look at a hole, over the hole's side
SMALL_GOAL = 0.6  # of the judge's own figure, for holes of the smallest share
GOAL = 0.8
EXTENDED = 512  # px of a picture that is extended,
MARGIN = 128  # to the left and to the right
TOP = 0.9  # a border that ranks above is seen
WIDTHS = {"edge or rim": EDGE_WIDTH, "tone": TONE_WIDTH}  # of what is seen of a border
WIDE_SHOWN = 4  # pictures in a row of a sheet of wider ones


@dataclass(frozen=True)
class Edit:
    """A scene with one object, which a hole over its place hides. box: rows and columns around the hole."""

    scene: Scene
    hole: Hole
    box: tuple[slice, slice]
    look: tuple[int, int, int, int]  # where the judge looks: left, top, right, bottom


def inpainting(examiner: Examiner) -> None:
    """An object is asked for in a hole, whose place is the object's in the scene that is compared with."""
    changed = 0
    count = 0
    sheet: list[Pictures] = []
    for side in SIDES:
        ranks: Ranks = {name: [] for name in WIDTHS}
        real_ranks: Ranks = {name: [] for name in WIDTHS}
        for share, shape in product(SHARES, (rectangle, stroke)):
            edits = _edits(examiner, side, share, shape)
            given = [render(replace(e.scene, objects=(), placements=()), side) for e in edits]
            what = f"inpainting, {side} px, {100 * share:g} %, {shape.__name__}"
            made = _painted(examiner, edits, given, what)
            _note_found(examiner, edits, made, what, share)
            changed += sum(int((m != g)[~e.hole].sum()) for e, m, g in zip(edits, made, given, strict=True))
            count += len(made)
            if shape is rectangle:
                sheet += made[:SHOWN]
                _add_ranks(ranks, edits, made)
                _add_ranks(real_ranks, edits, [render(edit.scene, side) for edit in edits])
        for name, found in ranks.items():
            seen_in_real = _seen(real_ranks[name])
            what = f"inpainting, {side} px"
            _note_seen(examiner, what, name, found, len(SHARES) * len(edits), seen_in_real)
    examiner.findings.figures.append(
        Figure("inpainting: values outside the hole changed", changed, 0, count, at_most=0)
    )
    examiner.findings.sheet("inpaint", sheet)


def _add_ranks(ranks: Ranks, edits: Sequence[Edit], made: Sequence[Pictures]) -> None:
    for name, width in WIDTHS.items():
        for edit, picture in zip(edits, made, strict=True):
            ranks[name] += hole_ranks(picture, edit.box, width)


def _edits(
    examiner: Examiner, side: int, share: float, shape: Callable[[np.random.Generator, int], Hole]
) -> list[Edit]:
    """Scenes whose object is where the hole is."""
    rng = np.random.default_rng((examiner.seed, side, round(1000 * share)))
    length = (share / shape(rng, PROBED).mean()) ** 0.5
    scenes = examiner.scenes("one", 3)[: max(4, examiner.count // EACH)]
    edits = []
    for scene in scenes:
        x, y = (float(v) for v in rng.uniform(length / 2, 1 - length / 2, 2))
        place = Placement(x, y, 0.9 * length)
        box = Placement(x, y, length).box(side)
        hole = np.zeros((side, side), np.bool_)
        height, width = hole[box].shape
        hole[box] = shape(rng, max(height, width))[:height, :width]
        edits.append(Edit(replace(scene, placements=(place,)), hole, box, _look(x, y, length, side)))
    return edits


def _look(x: float, y: float, length: float, side: int) -> tuple[int, int, int, int]:
    """A square around a hole, as large as the judge needs it to be, within the picture."""
    reach = min(LOOKED_AT * length, 1.0)
    left = min(max(x - reach / 2, 0), 1 - reach)
    top = min(max(y - reach / 2, 0), 1 - reach)
    edges = np.round(np.array([left, top, left + reach, top + reach]) * side).astype(int)
    return int(edges[0]), int(edges[1]), int(edges[2]), int(edges[3])


def rectangle(rng: np.random.Generator, side: int) -> Hole:
    """All of a square of ``side`` px."""
    return np.ones((side, side), np.bool_)


def stroke(rng: np.random.Generator, side: int) -> Hole:
    """A square of ``side`` px that is scribbled over with a thick brush, as a hand does it."""
    canvas = Image.new("1", (side, side))
    draw = ImageDraw.Draw(canvas)
    rows = np.linspace(0.15, 0.85, 4) * side
    points = [(side * (0.12 if i % 2 else 0.88), float(y)) for i, y in enumerate(np.repeat(rows, 2)[:-1])]
    jitter = rng.uniform(-0.05, 0.05, (len(points), 2)) * side
    moved = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(points, jitter.tolist(), strict=True)]
    draw.line(moved, fill=1, width=max(1, round(0.3 * side)), joint="curve")
    return np.asarray(canvas)


def _painted(
    examiner: Examiner, edits: Sequence[Edit], given: Sequence[Pictures], what: str
) -> list[Pictures]:
    made: list[Pictures] = []
    for part in examiner.batches(what, len(edits)):
        pairs = zip(edits[part], given[part], strict=True)
        canvases = [Canvas(picture, edit.hole) for edit, picture in pairs]
        prompts = [edit.scene.caption for edit in edits[part]]
        made += examiner.painter.inpaint(canvases, prompts, examiner.settings, examiner.seed + part.start)
    return made


def _note_found(
    examiner: Examiner, edits: Sequence[Edit], made: Sequence[Pictures], what: str, share: float
) -> None:
    """Whether the judge, which looks at the hole, sees the object that was asked for."""
    side = len(made[0])
    real = [render(edit.scene, side) for edit in edits]
    found = _first_in_look(examiner, edits, made)
    ceiling = float(np.mean(_first_in_look(examiner, edits, real)))
    goal = (SMALL_GOAL if share == SHARES[0] else GOAL) * ceiling
    examiner.findings.share(f"{what}: asked object found in the hole", found, ceiling, goal)


def _first_in_look(examiner: Examiner, edits: Sequence[Edit], pictures: Sequence[Pictures]) -> list[bool]:
    looks = []
    for edit, picture in zip(edits, pictures, strict=True):
        left, top, right, bottom = edit.look
        looks.append(picture[top:bottom, left:right])
    first = examiner.judged(looks).objects[:, 0].tolist()
    wanted = [examiner.numbers[edit.scene.objects[0].name] for edit in edits]
    return [seen == number for seen, number in zip(first, wanted, strict=True)]


def outpainting(examiner: Examiner) -> None:
    """Real scenes are extended to the left and the right: does an eye see where?"""
    scenes = examiner.scenes("one", 4)[: max(4, examiner.count // EACH)]
    given = examiner.real(scenes, EXTENDED)
    made: list[Pictures] = []
    for part in examiner.batches("outpainting", len(scenes)):
        prompts = [scene.caption for scene in scenes[part]]
        seed = examiner.seed + part.start
        margins = Margins(MARGIN, 0, MARGIN, 0)
        made += examiner.painter.outpaint(given[part], margins, prompts, examiner.settings, seed)
    _note_borders(examiner, made)
    examiner.findings.sheet("outpaint", made[: 4 * WIDE_SHOWN], WIDE_SHOWN)


def _note_borders(examiner: Examiner, made: Sequence[Pictures]) -> None:
    start, stop = MARGIN, MARGIN + EXTENDED
    known = np.zeros(stop + MARGIN, np.bool_)
    known[start:stop] = True
    for name, width in WIDTHS.items():
        ranks = [
            rank
            for picture in made
            for border in (start, stop)
            for rank in border_ranks(picture, border, known, width)
        ]
        _note_seen(examiner, "outpainting", name, ranks, len(made), 1 - TOP)
    textures = [
        texture_ratio(picture, border, painted_is_right)
        for picture in made
        for border, painted_is_right in ((start, False), (stop, True))
    ]
    name = "outpainting: texture beside the border, painted over known"
    median = float(np.median(textures))
    examiner.findings.figures.append(Figure(name, median, 1.0, len(made), at_least=0.8, at_most=1.25))


def _note_seen(
    examiner: Examiner, what: str, name: str, ranks: Sequence[float], count: int, real: float
) -> None:
    """How many stretches of a border rank high among the lines of their pictures, which are ``count``."""
    text = f"{what}: border in the top tenth of its picture's lines, {name}"
    examiner.findings.figures.append(Figure(text, _seen(ranks), real, count, at_most=0.2))


def _seen(ranks: Sequence[float]) -> float:
    return float(np.mean([rank > TOP for rank in ranks]))
