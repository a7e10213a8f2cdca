"""A supervisor that cannot make its start journal leaves no registration behind, and repeats no message with each try."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from mpdispatch.config import Config
from mpdispatch.errors import StoreError, StoreFull, StorePermission
from mpdispatch.execution.catalog import LiveCatalog
from mpdispatch.private import NotPrivateError
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.supervisor import registration
from mpdispatch.supervisor.loop import Supervisor
from mpdispatch.supervisor.plan import Plan
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.wiring import Wiring
from tests.pool.app import engine
from tests.pool.probes import open_descriptors
from tests.pool.rig import app_reference

FAULTS = {
    StoreFull: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    StorePermission: NotPrivateError("marks", "can be written by others", "chmod 600"),
}


@pytest.mark.parametrize("error", FAULTS)
def test_a_start_that_fails_at_the_mark_file_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[StoreError]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FAULTS[error]

    store = SQLiteStore(tmp_path / "jobs.db", durability="process")
    store.migrate()
    monkeypatch.setattr(registration, "Journal", fails)
    runtime = Runtime.assemble(app_reference("tests.pool.app:engine"), log=logging.getLogger("mpdispatch.test"))
    plan = Plan(store=store, config=Config(concurrency=1), catalog=LiveCatalog(engine.registry))
    before = open_descriptors()
    with caplog.at_level(logging.INFO):
        for _ in range(6):
            with pytest.raises(error):
                Supervisor(Wiring(runtime, plan))
            assert store.supervisors() == []
    store.close_all()
    assert len(open_descriptors()) <= len(before)
    assert sum(record.getMessage() == "registered" for record in caplog.records) <= 2
    runtime.close()
    store.close()
