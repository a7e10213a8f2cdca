"""Where the folder of a store lies on this machine, and how long it stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.store import SQLiteStore


class Served:
    """What this machine knows of a store on a server."""

    is_shared, file = True, None

    def __init__(self, location: str) -> None:
        self.location = location


def test_it_lies_beside_the_file_whatever_name_leads_there(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")
    for name in ("jobs.db", "link.db"):
        assert runtime_folder(SQLiteStore(tmp_path / name)) == tmp_path / "jobs.db-mpd"
    assert not (tmp_path / "jobs.db-mpd").exists(), "it is made by who puts something there"


def test_that_of_a_store_in_memory_goes_with_the_store() -> None:
    store, other = SQLiteStore(":memory:"), SQLiteStore(":memory:")
    folder = runtime_folder(store)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert runtime_folder(store) == folder != runtime_folder(other)
    (folder / "journal.1").touch()
    del store
    assert not folder.exists()
    assert runtime_folder(other).exists()


def test_a_child_does_not_take_away_the_folder_of_its_parent() -> None:
    store = SQLiteStore(":memory:")
    folder = runtime_folder(store)
    if (child := os.fork()) == 0:
        del store
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert folder.exists()


@pytest.mark.parametrize("other", ["postgresql://db.local/jobs", "postgresql://me:changed@db.local/jobs"])
def test_that_of_a_store_on_a_server_is_found_by_its_location_and_names_no_secret(other: str) -> None:
    folder = runtime_folder(Served("postgresql://me:secret@db.local/jobs"))
    assert folder == runtime_folder(Served(other))
    assert folder != runtime_folder(Served("postgresql://db.local/other"))
    assert folder.parent.is_dir()
    assert str(os.geteuid()) in folder.name
    assert "secret" not in folder.name
    assert not folder.exists()
