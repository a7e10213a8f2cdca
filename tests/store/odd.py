"""Rows written by other ways than ours: odd values, and all there is to look at a store with. Helpers of tests."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from mpdispatch.clock import Instant
from mpdispatch.config import Config
from mpdispatch.engine.client import JobClient
from mpdispatch.engine.doctor import checkup
from mpdispatch.engine.explain import explain
from mpdispatch.engine.supervisors import supervisors_of
from mpdispatch.model import JobState
from mpdispatch.model.json import dead_letter_to_json, supervisor_to_json, to_json
from mpdispatch.store import SQLiteStore
from mpdispatch.store.filters import DeadLetterFilter, JobFilter
from mpdispatch.store.sqlite.queries import SCHEMA
from mpdispatch.store.sqlite.steps import BASE, LATEST, steps

ODD = ("'high'", "CAST(x'ff' AS TEXT)", "9223372036854775807", "-9223372036854775808", "NULL")
"""For any column; of those of another type, SQLite refuses them."""
OF_OTHER_TYPES = ("1.5", "x'ff00'")
"""These no column of ours holds, except in a store of an older version."""


def columns_of(table: str, renamed: Mapping[str, str] | None = None, *, version: int = LATEST) -> list[str]:
    """Its columns as SQL names them in a schema of this version, or as they were named."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA.read_text(encoding="utf-8"))
        for step in steps():
            if BASE < step.version <= version:
                step.run(connection, "")
        found = [row[1] for row in connection.execute(f"PRAGMA table_info(mpdispatch_{table})")]
    return [(renamed or {}).get(column, column) for column in found]


def tamper(path: Path, *statements: str) -> bool:
    """Write as somebody does who ignores our constraints; False: one of them SQLite itself does not let him."""
    is_done = True
    with closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute("PRAGMA synchronous = OFF")
        for statement in statements:
            try:
                connection.execute(statement)
            except sqlite3.IntegrityError:
                is_done = False
    return is_done


def look(store: SQLiteStore, now: Instant, *job_ids: int) -> dict[int, dict[str, object]]:
    """Look at the store in every way there is, as JSON in UTF-8; gives all jobs by id."""
    shown = [to_json(job) for job in store.list_jobs(JobFilter(), limit=1000, cursor=None).items]
    seen: list[object] = [shown, JobClient.of(store).stats(), store.parked()]
    for state in JobState:
        page = store.list_jobs(JobFilter(state=state), limit=1000, cursor=None)
        seen.append([to_json(job) for job in page.items])
    letters = store.dead_letters(DeadLetterFilter(is_replayed=None), limit=1000, cursor=None)
    seen.append([dead_letter_to_json(letter) for letter in letters.items])
    seen.append([supervisor_to_json(each) for each in supervisors_of(store, now)])
    seen.append([to_json(each) for each in checkup(store, Config(), now=now)])
    names = [queue.name for queue in store.queue_stats()]
    seen += [[name, store.queue_state(name).bucket, store.dead_letter_count(name)] for name in names]
    for job_id in job_ids:
        job, reasons = explain(store, job_id, now=now)
        seen.append([to_json(job), [str(reason) for reason in reasons]])
        seen.append([to_json(attempt) for attempt in store.attempts(job_id)])
        seen.append([[each.stream, each.text] for each in store.outputs(job_id)])
        seen.append([store.state_of(job_id), store.ahead(job_id)])
    json.dumps(seen, allow_nan=False, ensure_ascii=False).encode()
    return {int(str(job["id"])): job for job in shown}
