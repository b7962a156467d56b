"""Settings: strict, and a misspelt one is an error at start."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.addresses import listening_address, reachable_address
from gateway.environment import UnknownSetting, load_settings
from gateway.settings import SHIPPED, Settings


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


def test_no_error_repeats_a_password() -> None:
    for bad in ({"shared_store": "Redis://:swordfish@redis"}, {"host": "0.0.0.0"}):
        with pytest.raises(ValidationError) as failure:
            Settings(**{"shared_store": "redis://:swordfish@redis", **bad})  # type: ignore[arg-type]
        assert "swordfish" not in str(failure.value)


@pytest.mark.parametrize(
    ("host", "listening", "reachable"),
    [
        ("127.0.0.1", "127.0.0.1:5", "127.0.0.1:5"),
        ("0.0.0.0", "0.0.0.0:5", "127.0.0.1:5"),
        ("::", "[::]:5", "[::1]:5"),
        ("gateway.local", "gateway.local:5", "gateway.local:5"),
    ],
)
def test_addresses_of_every_family(host: str, listening: str, reachable: str) -> None:
    assert listening_address(host, 5) == listening
    assert reachable_address(host, 5) == reachable


def test_settings_go_on_to_another_process_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(port=7, sleeping_stages=(f"{SHIPPED}/prior", f"{SHIPPED}/decoder"), max_guidance=3.5)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
