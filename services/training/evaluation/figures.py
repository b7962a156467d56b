"""The figures of an evaluation: what is drawn, what the judge makes of it, and what it makes of real scenes."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor, nn

from services.editing.canvas import Canvas, Margins
from services.training import loop
from services.training.data.scenes import Arrangement, Scene, render, sample_scene
from services.training.evaluation import judge as judging
from services.training.evaluation.judge import CELLS, Verdicts
from services.training.evaluation.painter import Painter, Pictures, Settings

BATCH = 25
SEAM_BAND = 6  # columns on each side that a seam is compared with
BLOCKS = 8  # in a picture's height, whose tones on the two sides of a border are compared
FRONT_DISTANCE = 0.42  # of the side; closer than that, and lower, is in front
UNKNOWN_THINGS = (
    "a wombat",
    "an accordion",
    "a zeppelin",
    "a plate of lasagne",
    "democracy",
    "a purple tiger with wings",
)
UNKNOWN_PLACES = ("in a meadow", "in a submarine", "on the moon", "")
Sheet = tuple[str, list[Pictures]]


@dataclass(frozen=True)
class Figure:
    """One measured share (or ratio): its value, the same on real scenes, the number of pictures, and the goal's least or
    most value; noise: one standard error."""

    name: str
    value: float
    real: float | None
    pictures: int
    at_least: float | None = None
    at_most: float | None = None
    noise: float = 0.0

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, if there is one."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


@dataclass
class Findings:
    """What an evaluation has found so far: figures, contact sheets, and lists that the report prints."""

    figures: list[Figure] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)

    def share(self, name: str, hits: Sequence[bool], real: float | None, goal: float | None = None) -> float:
        """Note a share of pictures with its standard error."""
        value, n = float(np.mean(hits)) if len(hits) else 0.0, len(hits)
        noise = math.sqrt(value * (1 - value) / n) if n else 0.0
        self.figures.append(Figure(name, value, real, n, at_least=goal, noise=noise))
        return value


class Evaluation:
    """Draws, judges and collects. ``count``: pictures for each figure."""

    def __init__(self, painter: Painter, judge: nn.Module, settings: Settings, count: int, seed: int) -> None:
        self.painter, self.judge, self.settings, self.count, self.seed = painter, judge, settings, count, seed
        self.findings = Findings()
        self._numbers = judging.object_indices()

    def scenes(self, arrangement: Arrangement, salt: int, *, held_out: bool = False) -> list[Scene]:
        """Scenes that no training run draws: their generator is seeded apart."""
        rng = np.random.default_rng((self.seed, salt))
        return [sample_scene(rng, held_out=held_out, arrangement=arrangement) for _ in range(self.count)]

    def real(self, scenes: Sequence[Scene], side: int = judging.SIDE) -> Pictures:
        """The scenes themselves."""
        return np.stack([render(s, side) for s in scenes])

    def judged(self, pictures: Sequence[Pictures] | Pictures) -> Verdicts:
        """The judge's verdicts on pictures of any size."""
        return judging.verdicts(self.judge, np.stack([reduced(p) for p in pictures]))

    def batches(self, what: str) -> Iterator[slice]:
        """Slices of at most BATCH, with a progress bar."""
        for start in track(range(0, self.count, BATCH), what, console=loop.console):
            yield slice(start, min(start + BATCH, self.count))

    def drawn(self, scenes: Sequence[Scene], what: str, settings: Settings | None = None) -> Pictures:
        """Pictures of the scenes' captions."""
        prompts = [s.caption for s in scenes]
        parts = self.batches(what)
        return np.concatenate(
            [self.painter.generate(prompts[p], settings or self.settings, self.seed + p.start) for p in parts]
        )

    def one_object(self) -> None:
        """One-object prompts of the training split and of the held-out pairs; the Frechet distance; nearest pictures."""
        shares: dict[str, float] = {}
        for salt, split in enumerate(("training", "held-out")):
            scenes = self.scenes("one", salt, held_out=split == "held-out")
            pictures = self.drawn(scenes, f"one object, {split} pairs")
            made, real = self.judged(pictures), self.judged(self.real(scenes))
            wanted = [self._numbers[s.objects[0].name] for s in scenes]
            hits, ceiling = top1(made, wanted), top1(real, wanted)
            goal = 0.9 * float(np.mean(ceiling)) if split == "training" else shares["training"] - 0.05
            shares[split] = self.findings.share(
                f"object is the judge's first, {split} pairs", hits, float(np.mean(ceiling)), goal
            )
            truth = judging.labels(scenes).backgrounds
            self.findings.share(
                f"background right, {split} pairs",
                (made.backgrounds == truth).tolist(),
                float((real.backgrounds == truth).float().mean()),
                0.97,
            )
            self.findings.sheets.append((f"generate-{split}", list(pictures[:32])))
            if split == "training":
                self._frechet(made, real)
                self._worst(scenes, hits)

    def _frechet(self, made: Verdicts, real: Verdicts) -> None:
        other = self.judged(self.real(self.scenes("one", 50)))
        value, floor = frechet(made.features, real.features), frechet(other.features, real.features)
        self.findings.figures.append(
            Figure(
                "Frechet distance of judge features, over real against real", value / floor, 1.0, self.count
            )
        )

    def _worst(self, scenes: Sequence[Scene], hits: Sequence[bool]) -> None:
        by_name: dict[str, list[bool]] = defaultdict(list)
        for scene, hit in zip(scenes, hits, strict=True):
            by_name[scene.objects[0].name].append(hit)
        ranked = sorted(by_name.items(), key=lambda item: (np.mean(item[1]), item[0]))
        self.findings.lists["The 20 objects drawn worst (share right)"] = [
            f"{n} ({sum(h)} of {len(h)})" for n, h in ranked[:20]
        ]

    def two_objects(self) -> None:
        """Two-object prompts: are both there, and do they stand as the prompt says?"""
        scenes = self.scenes("pair", 2)
        pictures = self.drawn(scenes, "two objects")
        made, real = self.judged(pictures), self.judged(self.real(scenes))
        found, ceiling = self._both_found(made, scenes), self._both_found(real, scenes)
        self.findings.share(
            "both objects found", found, float(np.mean(ceiling)), 0.75 * float(np.mean(ceiling))
        )
        right = [self._stands(made, i, s) for i, s in enumerate(scenes) if found[i]]
        right_real = [self._stands(real, i, s) for i, s in enumerate(scenes) if ceiling[i]]
        self.findings.share(
            "relation right, where both are found",
            right,
            float(np.mean(right_real)) if right_real else None,
            0.9,
        )
        self.findings.sheets.append(("two-objects", list(pictures[:32])))

    def _both_found(self, verdicts: Verdicts, scenes: Sequence[Scene]) -> list[bool]:
        seen = [set(row[:2].tolist()) for row in verdicts.objects]
        return [
            {self._numbers[a.name] for a in s.objects} == pair for s, pair in zip(scenes, seen, strict=True)
        ]

    def _stands(self, verdicts: Verdicts, i: int, scene: Scene) -> bool:
        (ax, ay), (bx, by) = (verdicts.best_place(i, self._numbers[a.name]) for a in scene.objects)
        distance = math.hypot(ax - bx, ay - by) / CELLS
        return {
            "left": ax < bx and abs(ax - bx) >= abs(ay - by),
            "right": ax > bx and abs(ax - bx) >= abs(ay - by),
            "above": ay < by and abs(ay - by) >= abs(ax - bx),
            "below": ay > by and abs(ay - by) >= abs(ax - bx),
            "beside": abs(ax - bx) >= abs(ay - by),
            "front": ay > by and distance < FRONT_DISTANCE,
        }[scene.relation]

    def inpainting(self) -> None:
        """A second object is asked for in a hole beside (or above, or below) the first, which stays."""
        scenes = [s for s in self._pairs(3) if s.relation != "front"][: self.count]
        side = self.settings.size
        holes = [hole_for(s, side) for s in scenes]
        given = np.stack([render(_without_first(s), side) for s in scenes])
        made: list[Pictures] = []
        for part in self.batches("inpainting"):
            canvases = [Canvas(p, h) for p, h in zip(given[part], holes[part], strict=True)]
            made += self.painter.inpaint(
                canvases, [s.caption for s in scenes[part]], self.settings, self.seed + part.start
            )
        found = self._found_in(self.judged(made), scenes, holes)
        ceiling = float(np.mean(self._found_in(self.judged(self.real(scenes)), scenes, holes)))
        self.findings.share("inpainting: asked object found in the hole", found, ceiling, 0.8 * ceiling)
        changed = sum(int((m != g)[~h].sum()) for m, g, h in zip(made, given, holes, strict=True))
        self.findings.figures.append(
            Figure("inpainting: values outside the hole changed", changed, 0, len(made), at_most=0)
        )
        shown = [np.where(h[..., None], np.uint8(128), g) for g, h in zip(given, holes, strict=True)]
        self.findings.sheets.append(
            ("inpaint", [p for pair in zip(shown[:16], made[:16], strict=True) for p in pair])
        )

    def _pairs(self, salt: int) -> list[Scene]:
        rng = np.random.default_rng((self.seed, salt))
        return [sample_scene(rng, arrangement="pair") for _ in range(2 * self.count)]

    def _found_in(
        self, verdicts: Verdicts, scenes: Sequence[Scene], holes: Sequence[npt.NDArray[np.bool_]]
    ) -> list[bool]:
        """Whether the object that the judge sees most surely in the hole is the one that was asked for."""
        found = []
        for i, (scene, hole) in enumerate(zip(scenes, holes, strict=True)):
            cells = hole.reshape(CELLS, hole.shape[0] // CELLS, CELLS, -1).mean((1, 3)) > 0.5
            best = verdicts.places[i][:, torch.from_numpy(cells)].amax(1).argmax()
            found.append(int(best) == self._numbers[scene.objects[0].name])
        return found

    def outpainting(self) -> None:
        """Real scenes extended to the right by half: is the old border seen?"""
        scenes, side = self.scenes("one", 4), self.settings.size
        given = self.real(scenes, side)
        made: list[Pictures] = []
        for part in self.batches("outpainting"):
            prompts = [s.caption for s in scenes[part]]
            made += self.painter.outpaint(
                given[part], Margins(0, 0, side // 2, 0), prompts, self.settings, self.seed + part.start
            )
        value, real = seam(made, side), seam(list(given), side // 2)
        self.findings.figures.append(
            Figure("outpainting: seam visibility", value, real, len(made), at_most=1.15)
        )
        value, real = step_in_tone(made, side), step_in_tone(list(given), side // 2)
        self.findings.figures.append(
            Figure("outpainting: step in tone at the border (of 255)", value, real, len(made))
        )
        self.findings.sheets.append(("outpaint", made[:16]))

    def outside_vocabulary(self) -> None:
        """Prompts with words that no scene has: the picture should still be a picture."""
        prompts = [f"{thing} {place}" for thing in UNKNOWN_THINGS for place in UNKNOWN_PLACES]
        made = self.painter.generate(prompts, self.settings, self.seed)
        real = self.real(self.scenes("one", 8)[: len(prompts)], self.settings.size)
        self.findings.figures.append(
            Figure(
                "words outside the vocabulary: roughness over real scenes'",
                roughness(made) / roughness(real),
                1.0,
                len(made),
                at_most=1.5,
            )
        )
        self.findings.sheets.append(("outside-vocabulary", list(made)))
        self.findings.lists["Prompts outside the vocabulary, as on the sheet"] = prompts

    def variations(self, similarity: float) -> None:
        """Variations of real scenes: is the object still there, and does similarity do what it says?"""
        scenes = self.scenes("one", 5)
        given = self.real(scenes, self.settings.size)
        parts = self.batches("variations")
        made = np.concatenate(
            [self.painter.vary(given[p], similarity, self.settings, self.seed + p.start) for p in parts]
        )
        seen, kept = self.judged(given).objects[:, 0], self.judged(made).objects[:, 0]
        self.findings.share("variations: judge's first object kept", (seen == kept).tolist(), 1.0, 0.85)
        self.findings.sheets.append(
            ("vary", [p for pair in zip(given[:16], made[:16], strict=True) for p in pair])
        )
        self._monotone(given[: min(self.count, 40)])

    def _monotone(self, given: Pictures) -> None:
        distances = []
        for similarity in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
            made = self.painter.vary(given, similarity, self.settings, self.seed)
            distances.append(float(np.abs(made.astype(np.float32) - given).mean()))
        rising = all(a > b for a, b in itertools.pairwise(distances))
        self.findings.lists["Mean difference to the given picture (of 255) at similarity 0, 0.2, ... 1"] = [
            f"{d:.1f}" for d in distances
        ]
        self.findings.figures.append(
            Figure(
                "variations: similarity moves monotonically (1 = yes)", float(rising), None, len(given), 1.0
            )
        )


def reduced(picture: Pictures) -> Pictures:
    """(S, S, 3) as the judge looks at it."""
    return np.asarray(Image.fromarray(picture).resize((judging.SIDE, judging.SIDE), Image.Resampling.BOX))


def top1(verdicts: Verdicts, wanted: Sequence[int]) -> list[bool]:
    """Whether the judge's first object is the wanted one."""
    return (verdicts.objects[:, 0] == torch.tensor(wanted)).tolist()


def frechet(a: Tensor, b: Tensor) -> float:
    """The Frechet distance between Gaussians fitted to two sets of features (N, F) (arXiv 1706.08500, equation 6)."""
    a, b = a.double(), b.double()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    covariance_a, covariance_b = torch.cov(a.T), torch.cov(b.T)
    cross = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp_min(0).sqrt().sum()
    return float(gap + covariance_a.trace() + covariance_b.trace() - 2 * cross)


def seam(pictures: Sequence[Pictures], border: int) -> float:
    """The mean gradient across column ``border``, relative to that across the columns beside it (1: no seam)."""
    across, beside = 0.0, 0.0
    for picture in pictures:
        columns = picture[:, border - SEAM_BAND - 1 : border + SEAM_BAND + 1].astype(np.float32)
        gradients = np.abs(np.diff(columns, axis=1)).mean((0, 2))
        across += gradients[SEAM_BAND]
        beside += (gradients.sum() - gradients[SEAM_BAND]) / (len(gradients) - 1)
    return float(across / beside)


def step_in_tone(pictures: Sequence[Pictures], border: int) -> float:
    """How far apart (of 255) the colours left and right of column ``border`` are: of the differences between blocks that
    meet there, down a picture, the median of each channel, so that neither texture nor an object counts; the mean of all."""
    steps = []
    for picture in pictures:
        side = len(picture) // BLOCKS
        sides = (
            picture[: side * BLOCKS, border - side : border + side]
            .reshape(BLOCKS, side, 2, side, 3)
            .mean((1, 3))
        )
        steps.append(np.abs(np.median(sides[:, 0] - sides[:, 1], axis=0)).mean())
    return float(np.mean(steps))


def roughness(pictures: Pictures) -> float:
    """The mean difference of a pixel (of 255) to the mean of its four neighbours: high in noise, low in pictures."""
    p = pictures.astype(np.float32)
    around = (p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]) / 4
    return float(np.abs(p[:, 1:-1, 1:-1] - around).mean())


def hole_for(scene: Scene, side: int) -> npt.NDArray[np.bool_]:
    """A rectangle with the first object's room in it, (side, side)."""
    hole = np.zeros((side, side), np.bool_)
    hole[scene.placements[0].box(side, 1.1)] = True
    return hole


def _without_first(scene: Scene) -> Scene:
    return replace(scene, objects=scene.objects[1:], placements=scene.placements[1:])
