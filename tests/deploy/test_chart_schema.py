"""What the chart's values may say of a stage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from services.bundles.bundle import ROOT
from services.decoder import settings as decoder_settings
from services.prior import settings as prior_settings


def test_every_setting_of_the_sampling_stages_can_be_given() -> None:
    schema = json.loads((ROOT / "deploy/chart/values.schema.json").read_text())

    def listed(part: Any) -> Iterator[set[str]]:
        if isinstance(part, dict):
            if "call_sizes" in part:
                yield set(part)
            for value in part.values():
                yield from listed(value)

    (known,) = listed(schema)
    settings = decoder_settings.Settings.model_fields.keys() | prior_settings.Settings.model_fields.keys()
    assert settings - {"bundle"} <= known
