"""Which applications the local stack makes of bundles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.local.cluster import serve_config
from deploy.local.models import gateway_table, local_models
from deploy.local.settings import StackError, StackSettings
from gateway.settings import Settings
from services.bundles.bundle import write_manifest
from services.wire.stages import STAGES


def bundle(folder: Path, name: str, clip: str = "one", text: str = "") -> str:
    """A bundle with files that say these words."""
    parts = {"clip": clip} if not text else {"text-tower": text, "image-tower": clip}
    for part, content in {**parts, "prior": name, "decoder": name}.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "model.safetensors").write_text(content)
    write_manifest(folder, name, "1", ())
    return str(folder)


def test_models_with_the_same_encoders_share_them(tmp_path: Path) -> None:
    folders = [
        bundle(tmp_path / "a", "a"),
        bundle(tmp_path / "b", "b"),
        bundle(tmp_path / "c", "c", clip="two"),
        bundle(tmp_path / "d", "d", clip="two", text="three"),
    ]
    models = local_models(folders)
    both = ["image_encoder", "text_encoder"]
    assert [sorted(model.shared) for model in models] == [[], both, [], ["image_encoder"]]
    config = serve_config(STAGES, StackSettings(), models)
    names = [application["name"] for application in config["applications"]]
    assert names[:4] == list(STAGES)
    assert names[4:6] == ["b-prior", "b-decoder"]
    assert len(names) == len(set(names)) == 4 + 2 + 4 + 3
    table = gateway_table(models, "127.0.0.1:9000")
    settings = Settings(models=table)
    assert settings.target("b", "text_encoder") == ("text_encoder", "127.0.0.1:9000")
    assert settings.target("c", "text_encoder") == ("c-text_encoder", "127.0.0.1:9000")
    assert settings.borrowed("b") == ("text_encoder", "image_encoder")


def test_only_the_shipped_bundle_has_the_size_that_its_config_says(tmp_path: Path) -> None:
    models = local_models(["models", bundle(tmp_path / "a", "a")])
    config = serve_config(STAGES, StackSettings(), models)
    sizes = {a["name"]: a["args"]["size"] for a in config["applications"] if "size" in a["args"]}
    assert sizes == {"decoder": 256, "a-decoder": 0}


def test_bundles_that_cannot_stand_side_by_side_are_refused(tmp_path: Path) -> None:
    twice = [bundle(tmp_path / "a", "a"), bundle(tmp_path / "b", "a")]
    with pytest.raises(StackError, match="another one's"):
        local_models(twice)
    odd = bundle(tmp_path / "c", "c")
    manifest = tmp_path / "c/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "name": "A name"}))
    with pytest.raises(StackError, match="no name for a model"):
        local_models([odd])
    with pytest.raises(StackError, match="no model bundle"):
        local_models([str(tmp_path)])
