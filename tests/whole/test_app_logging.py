"""Whatever process runs the app's code, its log looks as the app set it up when it was imported."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mpdispatch.store import SQLiteStore
from tests.whole.harness import Place, is_alive, until

APP = """
import logging, logging.config, os
from mpdispatch import Dispatcher, Engine, hooks, open_store

{setup}

class Told(hooks.Extension):
    name = "told"

    def on_job_completed(self, event):
        logging.getLogger("shop.hooks").debug("hook of %s", event.name)

engine = Engine.build(Dispatcher(open_store("jobs.db"), concurrency=1), extensions=[Told()])

@engine.job(max_retries=0)
def speak(n: int) -> None:
    logging.getLogger("shop").debug("debug of %s", n)
    logging.getLogger("shop").info("info of %s", n)
"""


def lines_of_both_kinds_of_worker(folder: Path, setup: str) -> list[str]:
    """What two jobs and their hooks log: one job in the first worker, which imports the app, one in a fork."""
    place = Place(folder, APP.format(setup=setup))
    try:
        return _lines_of_both(place, SQLiteStore(place.db))
    finally:
        place.close()


def _lines_of_both(place: Place, store: SQLiteStore) -> list[str]:
    assert place.cli("enqueue", "speak", "n:=1", "--store", "jobs.db").returncode == 0
    supervisor = place.supervise()
    first, second = (run(place, store, job_id) for job_id in (1, 2))
    assert first != second
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0
    return [line for line in supervisor.err.splitlines() if " of " in line]


def run(place: Place, store: SQLiteStore, job_id: int) -> int:
    """The pid of the worker that ran it. A fork follows if it was the first one."""
    if job_id > 1:
        assert place.cli("enqueue", "speak", f"n:={job_id}", "--store", "jobs.db").returncode == 0
    until(lambda: store.get(job_id).state == "completed", "it is run", within=60)
    pid = store.get(job_id).worker_pid
    assert pid is not None
    if job_id == 1:
        until(lambda: not is_alive(pid), "a fork for the first worker", within=60)
    return pid


@pytest.mark.parametrize(
    ("setup", "debug", "info"),
    [
        ("", None, "INFO shop: info of {}"),
        ("logging.basicConfig(level='DEBUG', format='OWN %(levelname)s %(message)s')",
         "OWN DEBUG debug of {}", "OWN INFO info of {}"),
        ("logging.basicConfig(level='WARNING', format='OWN %(message)s')", None, None),
        ("logging.getLogger().setLevel('DEBUG')", "DEBUG shop: debug of {}", "INFO shop: info of {}"),
        ("logging.getLogger().setLevel('WARNING')", None, None),
        ("logging.getLogger('shop').setLevel('DEBUG')", "DEBUG shop: debug of {}", "INFO shop: info of {}"),
        ("logging.config.dictConfig({'version': 1, 'formatters': {'f': {'format': 'DICT %(message)s'}}, 'handlers':"
         " {'h': {'class': 'logging.StreamHandler', 'formatter': 'f'}}, 'root': {'level': 'INFO', 'handlers': ['h']}})",
         None, "DICT info of {}"),
    ],
    ids=["nothing", "basicConfig", "a quiet basicConfig", "the root's level", "WARNING said", "a logger's level",
         "dictConfig"],
)  # fmt: skip
def test_the_logging_an_app_sets_up_holds_in_every_worker(
    tmp_path: Path, setup: str, debug: str | None, info: str | None
) -> None:
    lines = [line for line in lines_of_both_kinds_of_worker(tmp_path, setup) if "hook" not in line]
    assert lines == [line.format(n) for n in (1, 2) for line in (debug, info) if line]


def test_the_logging_an_app_sets_up_holds_for_its_hooks(tmp_path: Path) -> None:
    setup = "logging.basicConfig(level='DEBUG', format='OWN %(levelname)s %(message)s')"
    lines = [line for line in lines_of_both_kinds_of_worker(tmp_path, setup) if "hook" in line]
    assert lines == ["OWN DEBUG hook of speak"] * 2
