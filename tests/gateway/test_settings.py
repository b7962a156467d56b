"""Settings: strict, and a misspelt one is an error at start."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings import UnknownSetting, load_settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLIP_PORT", "1234")
    monkeypatch.setenv("UNCLIP_PRIOR_ADDRESS", "prior:9000")
    settings = load_settings()
    assert settings.port == 1234
    assert settings.prior_address == "prior:9000"


def test_a_misspelt_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLIP_PROT", "1234")
    with pytest.raises(UnknownSetting, match=r"UNCLIP_PROT.*UNCLIP_PORT"):
        load_settings()


def test_a_bad_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLIP_PORT", "many")
    with pytest.raises(ValidationError):
        load_settings()
