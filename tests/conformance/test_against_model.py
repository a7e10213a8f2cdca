"""A store answers as the model does, whatever is asked of it, by whom and in which order.

`MPDISPATCH_MODEL_EXAMPLES=2000` tries that many sequences, other ones each time; without it, the same few.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from mpdispatch.store import SQLiteStore

from .machine import Machine

EXAMPLES = int(os.environ.get("MPDISPATCH_MODEL_EXAMPLES", "0"))
SETTINGS = settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    stateful_step_count=40,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

pytestmark = pytest.mark.timeout(0 if EXAMPLES else 600)


def test_a_store_in_memory_answers_as_the_model_does() -> None:
    run_state_machine_as_test(lambda: Machine(SQLiteStore(":memory:")), settings=SETTINGS)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Path]:
    """Paths of new stores, each a copy of an empty one: that is faster than to make its schema anew."""

    def copies() -> Iterator[Path]:
        empty = tmp_path / "empty.db"
        SQLiteStore(empty).migrate()
        for number in count():
            path = tmp_path / f"{number}.db"
            shutil.copy(empty, path)
            yield path
            shutil.rmtree(f"{path}-mpd", ignore_errors=True)
            path.unlink()

    return copies()


def test_a_store_in_a_file_answers_as_the_model_does(paths: Iterator[Path]) -> None:
    def machine() -> Machine:
        path = next(paths)
        return Machine(SQLiteStore(path, durability="process"), path)

    run_state_machine_as_test(machine, settings=SETTINGS)
