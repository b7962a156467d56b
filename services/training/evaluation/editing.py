"""Figures of pictures that are painted into holes and past borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from services.editing.canvas import Canvas, Margins
from services.training.data.scenes import Scene, render, sample_scene
from services.training.evaluation.examiner import Examiner
from services.training.evaluation.findings import Figure
from services.training.evaluation.judge import CELLS, Verdicts
from services.training.evaluation.measures import seam, step_in_tone
from services.training.evaluation.painter import Pictures

Hole = npt.NDArray[np.bool_]  # (side, side), true where it is to be painted
SHOWN = 16  # pictures on a sheet
HIDDEN = np.uint8(128)  # how a hole is shown


def inpainting(examiner: Examiner) -> None:
    """A second object is asked for, in a hole beside, above or below the first, which stays."""
    scenes = _pairs(examiner, 3)
    side = examiner.settings.size
    holes = [hole_for(s, side) for s in scenes]
    given = np.stack([render(_without_first(s), side) for s in scenes])
    made: list[Pictures] = []
    for part in examiner.batches("inpainting"):
        canvases = [Canvas(p, h) for p, h in zip(given[part], holes[part], strict=True)]
        prompts = [s.caption for s in scenes[part]]
        made += examiner.painter.inpaint(canvases, prompts, examiner.settings, examiner.seed + part.start)
    found = _found_in(examiner, examiner.judged(made), scenes, holes)
    found_in_real = _found_in(examiner, examiner.judged(examiner.real(scenes)), scenes, holes)
    ceiling = float(np.mean(found_in_real))
    findings = examiner.findings
    findings.share("inpainting: asked object found in the hole", found, ceiling, 0.8 * ceiling)
    changed = sum(int((m != g)[~h].sum()) for m, g, h in zip(made, given, holes, strict=True))
    name = "inpainting: values outside the hole changed"
    findings.figures.append(Figure(name, changed, 0, len(made), at_most=0))
    shown = [np.where(h[..., None], HIDDEN, g) for g, h in zip(given, holes, strict=True)]
    pairs = zip(shown[:SHOWN], made[:SHOWN], strict=True)
    findings.sheets.append(("inpaint", [picture for pair in pairs for picture in pair]))


def _pairs(examiner: Examiner, salt: int) -> list[Scene]:
    """Scenes of two objects of which none hides the other."""
    rng = np.random.default_rng((examiner.seed, salt))
    scenes = [sample_scene(rng, arrangement="pair") for _ in range(2 * examiner.count)]
    return [s for s in scenes if s.relation != "front"][: examiner.count]


def _found_in(
    examiner: Examiner, verdicts: Verdicts, scenes: Sequence[Scene], holes: Sequence[Hole]
) -> list[bool]:
    """Whether the likeliest object in the hole is the one that was asked for, for each picture."""
    found = []
    for i, (scene, hole) in enumerate(zip(scenes, holes, strict=True)):
        cells = hole.reshape(CELLS, hole.shape[0] // CELLS, CELLS, -1).mean((1, 3)) > 0.5
        best = verdicts.places[i][:, torch.from_numpy(cells)].amax(1).argmax()
        found.append(int(best) == examiner.numbers[scene.objects[0].name])
    return found


def hole_for(scene: Scene, side: int) -> Hole:
    """A rectangle where the first object has room, (side, side)."""
    hole = np.zeros((side, side), np.bool_)
    hole[scene.placements[0].box(side, 1.1)] = True
    return hole


def _without_first(scene: Scene) -> Scene:
    return replace(scene, objects=scene.objects[1:], placements=scene.placements[1:])


def outpainting(examiner: Examiner) -> None:
    """Real scenes are extended to the right by half: does the old border show?"""
    scenes = examiner.scenes("one", 4)
    side = examiner.settings.size
    margins = Margins(0, 0, side // 2, 0)
    given = examiner.real(scenes, side)
    made: list[Pictures] = []
    for part in examiner.batches("outpainting"):
        prompts = [s.caption for s in scenes[part]]
        seed = examiner.seed + part.start
        made += examiner.painter.outpaint(given[part], margins, prompts, examiner.settings, seed)
    findings = examiner.findings
    name = "outpainting: seam visibility"
    real = seam(list(given), side // 2)
    findings.figures.append(Figure(name, seam(made, side), real, len(made), at_most=1.15))
    name = "outpainting: step in tone at the border (of 255)"
    real = step_in_tone(list(given), side // 2)
    findings.figures.append(Figure(name, step_in_tone(made, side), real, len(made)))
    findings.sheets.append(("outpaint", made[:SHOWN]))
