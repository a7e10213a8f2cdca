"""The machine's zone is found by its name, however the machine names it."""

from __future__ import annotations

import zoneinfo
from pathlib import Path

import pytest

from mpdispatch.host.timezone import host_zone


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)


def _zone_file(name: str) -> Path:
    for folder in map(Path, zoneinfo.TZPATH):
        if (folder / name).is_file():
            return folder / name
    pytest.skip("this machine has no zone files")


def test_the_variable_counts_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "timezone").write_text("Europe/Berlin\n")
    for value in ("America/New_York", ":America/New_York", "/usr/share/zoneinfo/America/New_York"):
        monkeypatch.setenv("TZ", value)
        assert host_zone(tmp_path) == "America/New_York"


@pytest.mark.parametrize("value", ["EST5EDT,M3.2.0,M11.1.0", "Mars/Olympus", "../../etc/passwd", ""])
def test_a_variable_that_names_no_zone_does_not(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TZ", value)
    (tmp_path / "timezone").write_text("Europe/Berlin\n")
    assert host_zone(tmp_path) == "Europe/Berlin"


def test_localtime_is_a_link_or_a_copy(tmp_path: Path) -> None:
    linked, copied = tmp_path / "linked", tmp_path / "copied"
    for folder in (linked, copied):
        folder.mkdir()
    zone = _zone_file("Australia/Lord_Howe")
    (linked / "localtime").symlink_to(zone)
    (copied / "localtime").write_bytes(zone.read_bytes())
    assert host_zone(linked) == host_zone(copied) or host_zone(copied) in (
        "Australia/LHI",
        "Australia/Lord_Howe",
    )


def test_a_machine_that_names_none_has_utc(tmp_path: Path) -> None:
    assert host_zone(tmp_path) == "UTC"
