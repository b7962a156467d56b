"""Quality against what sampling costs: steps, guidance, solvers and guidance intervals."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from services.bundles.bundle import DOCS, Bundle, write_manifest
from services.training.data.scenes import Scene
from services.training.evaluation import judge as judging
from services.training.evaluation.examiner import BATCH, Examiner
from services.training.evaluation.judge import Verdicts
from services.training.evaluation.measures import frechet, roughness, top1
from services.training.evaluation.painter import Painter, Settings
from services.training.loop import console

Change = dict[str, Any]  # settings, or options of a sampling config, by name
PROMPTS = 200
OPTIONS: dict[str, tuple[Change, ...]] = {
    "decoder steps": tuple({"decoder_steps": n} for n in (2, 4, 6, 8, 12, 20)),
    "prior steps": tuple({"prior_steps": n} for n in (2, 4, 8, 16, 25)),
    "decoder guidance": tuple({"decoder_guidance": g} for g in (1.0, 1.5, 2.0, 3.0, 4.0)),
    "prior guidance": tuple({"prior_guidance": g} for g in (1.0, 2.0, 3.0, 4.0)),
}
SOLVERS: tuple[Change, ...] = tuple({"sampler": name} for name in ("ddim", "dpm++2m", "ancestral"))
INTERVALS: tuple[Change, ...] = tuple(
    {"guidance_interval": pair} for pair in ((0.0, 1.0), (0.2, 1.0), (0.4, 1.0), (0.0, 0.8), (0.2, 0.8))
)
CONFIGS: tuple[tuple[str, str, tuple[Change, ...]], ...] = (
    ("the decoder's solver", "decoder", SOLVERS),
    ("the prior's solver", "prior", SOLVERS),
    ("the decoder's guidance interval", "decoder", INTERVALS),
)
UPSAMPLER_STEPS = (1, 2, 4, 8)
RAISED = 32  # scenes that are raised by the first upsampler


@dataclass(frozen=True)
class Curves:
    """One-object prompts at the base size, and what the judge says of their real scenes."""

    examiner: Examiner
    scenes: Sequence[Scene]
    real: Verdicts

    def point(self, change: Change, painter: Painter, settings: Settings) -> str:
        """One point of a curve, in words. change: what is said of it."""
        said = ", ".join(str(value) for value in change.values())
        prompts = [s.caption for s in self.scenes]
        parts = [slice(i, i + BATCH) for i in range(0, len(prompts), BATCH)]
        seed = self.examiner.seed
        drawn = [
            painter.generate(prompts[p], settings, seed + p.start)
            for p in track(parts, said, console=console)
        ]
        made = self.examiner.judged(np.concatenate(drawn))
        wanted = judging.labels(self.scenes).objects.argmax(1).tolist()
        share = 100 * np.mean(top1(made, wanted))
        distance = frechet(made.features, self.real.features)
        return f"{said}: object first {share:.1f} %, Frechet {distance:.2f}"


def note_curves(examiner: Examiner, bundle: Path) -> None:
    """Add the curves to what the examiner found."""
    scenes = examiner.scenes("one", 7)[:PROMPTS]
    curves = Curves(examiner, scenes, examiner.judged(examiner.real(scenes)))
    painter = examiner.painter
    base = replace(examiner.settings, size=painter.decoder.sizes[0])
    lists = examiner.findings.lists
    prompts = f"({len(scenes)} prompts, 64 px)"
    for name, changes in OPTIONS.items():
        lists[f"Quality against {name} {prompts}"] = [
            curves.point(change, painter, replace(base, **change)) for change in changes
        ]
    for name, part, changes in CONFIGS:
        lists[f"Quality against {name} {prompts}"] = [
            curves.point(change, _sampling(painter, bundle, part, change), base) for change in changes
        ]
    name = f"Quality against upsampler steps ({RAISED} scenes reduced to 64 px and raised to 256 px)"
    lists[name] = _upsampled(examiner)


def _upsampled(examiner: Examiner) -> list[str]:
    """Scenes through the first upsampler, against themselves.

    They are varied at similarity 1, at which the base network leaves a picture as it is.
    """
    size = examiner.painter.decoder.sizes[1]
    given = examiner.real(examiner.scenes("one", 7)[:RAISED], size)
    points = []
    for steps in track(UPSAMPLER_STEPS, "upsampler steps", console=console):
        settings = replace(examiner.settings, size=size, upsampler_steps=steps)
        made = examiner.painter.vary(given, 1.0, settings, examiner.seed)
        error = np.square(made.astype(np.float32) - given).mean() ** 0.5
        rough = roughness(made) / roughness(given)
        points.append(
            f"{steps}: root mean squared difference {error:.2f} of 255, "
            f"roughness over the scenes' {rough:.2f}"
        )
    return points


def _sampling(painter: Painter, bundle: Path, part: str, change: Change) -> Painter:
    """A painter with the same bundle, one part of which is sampled differently."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bundle"
        shutil.copytree(bundle, target, ignore=shutil.ignore_patterns(DOCS))
        config = target / part / "config.json"
        described = json.loads(config.read_text())
        described["diffusion"]["sampling"] |= change
        config.write_text(json.dumps(described))
        manifest = Bundle(target).manifest
        write_manifest(target, manifest.name, manifest.version, manifest.licences)
        return painter.with_bundle(target)
