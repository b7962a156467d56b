"""Quality against what sampling costs: steps, guidance, solver and guidance interval of the prior, the decoder and an upsampler."""

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

from services.bundles.bundle import Bundle, write_manifest
from services.training import loop
from services.training.data.scenes import Scene
from services.training.evaluation import judge as judging
from services.training.evaluation.figures import BATCH, Evaluation, frechet, roughness, top1
from services.training.evaluation.judge import Verdicts
from services.training.evaluation.painter import Painter, Settings

PROMPTS = 200
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "decoder steps": tuple({"decoder_steps": n} for n in (2, 4, 6, 8, 12, 20)),
    "prior steps": tuple({"prior_steps": n} for n in (2, 4, 8, 16, 25)),
    "decoder guidance": tuple({"decoder_guidance": g} for g in (1.0, 1.5, 2.0, 3.0, 4.0)),
    "prior guidance": tuple({"prior_guidance": g} for g in (1.0, 2.0, 3.0, 4.0)),
}
SOLVERS = tuple({"sampler": name} for name in ("ddim", "dpm++2m", "ancestral"))
INTERVALS = tuple(
    {"guidance_interval": pair} for pair in ((0.0, 1.0), (0.2, 1.0), (0.4, 1.0), (0.0, 0.8), (0.2, 0.8))
)
CONFIGS: tuple[tuple[str, str, tuple[dict[str, Any], ...]], ...] = (
    ("the decoder's solver", "decoder", SOLVERS),
    ("the prior's solver", "prior", SOLVERS),
    ("the decoder's guidance interval", "decoder", INTERVALS),
)
UPSAMPLER_STEPS, RAISED = (1, 2, 4, 8), 32


@dataclass(frozen=True)
class Curves:
    """One-object prompts at the base size, and what the judge says of their real scenes."""

    evaluation: Evaluation
    scenes: Sequence[Scene]
    real: Verdicts

    def point(self, change: dict[str, Any], painter: Painter, settings: Settings) -> str:
        """One point of a curve, in words."""
        said = ", ".join(str(value) for value in change.values())
        prompts = [s.caption for s in self.scenes]
        parts = [slice(i, i + BATCH) for i in range(0, len(prompts), BATCH)]
        seed = self.evaluation.seed
        drawn = [
            painter.generate(prompts[p], settings, seed + p.start)
            for p in track(parts, said, console=loop.console)
        ]
        made = self.evaluation.judged(np.concatenate(drawn))
        wanted = judging.labels(self.scenes).objects.argmax(1).tolist()
        return f"{said}: object first {100 * np.mean(top1(made, wanted)):.1f} %, Frechet {frechet(made.features, self.real.features):.2f}"


def measure_curves(evaluation: Evaluation, bundle: Path) -> None:
    """Add the curves to the evaluation's lists."""
    scenes = evaluation.scenes("one", 7)[:PROMPTS]
    curves = Curves(evaluation, scenes, evaluation.judged(evaluation.real(scenes)))
    base = replace(evaluation.settings, size=evaluation.painter.decoder.sizes[0])
    lists, of = evaluation.findings.lists, f"({len(scenes)} prompts, 64 px)"
    for name, changes in OPTIONS.items():
        lists[f"Quality against {name} {of}"] = [
            curves.point(c, evaluation.painter, replace(base, **c)) for c in changes
        ]
    for name, part, changes in CONFIGS:
        lists[f"Quality against {name} {of}"] = [
            curves.point(c, _sampling(evaluation.painter, bundle, part, c), base) for c in changes
        ]
    lists[f"Quality against upsampler steps ({RAISED} scenes reduced to 64 px and raised to 256 px)"] = (
        _upsampled(evaluation)
    )


def _upsampled(evaluation: Evaluation) -> list[str]:
    """Scenes through the first upsampler, against themselves. At similarity 1 the base network leaves the picture it starts with."""
    size = evaluation.painter.decoder.sizes[1]
    given = evaluation.real(evaluation.scenes("one", 7)[:RAISED], size)
    points = []
    for steps in track(UPSAMPLER_STEPS, "upsampler steps", console=loop.console):
        settings = replace(evaluation.settings, size=size, upsampler_steps=steps)
        made = evaluation.painter.vary(given, 1.0, settings, evaluation.seed)
        error, rough = (
            np.square(made.astype(np.float32) - given).mean() ** 0.5,
            roughness(made) / roughness(given),
        )
        points.append(
            f"{steps}: root mean squared difference {error:.2f} of 255, roughness over the scenes' {rough:.2f}"
        )
    return points


def _sampling(painter: Painter, bundle: Path, part: str, change: dict[str, Any]) -> Painter:
    """The same bundle, one part of it sampled differently."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bundle"
        shutil.copytree(bundle, target, ignore=shutil.ignore_patterns("docs"))
        config = target / part / "config.json"
        described = json.loads(config.read_text())
        described["diffusion"]["sampling"] |= change
        config.write_text(json.dumps(described))
        manifest = Bundle(target).manifest
        write_manifest(target, manifest.name, manifest.version, manifest.licences)
        return painter.with_bundle(target)
