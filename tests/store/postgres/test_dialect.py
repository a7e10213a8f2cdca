"""Every statement that the shared modules have is one that PostgreSQL takes, for tables of any schema."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg
import pytest

from mpdispatch.model import JobState
from mpdispatch.store.filters import DeadLetterFilter, JobFilter
from mpdispatch.store.postgres import PostgresStore
from mpdispatch.store.postgres.dialect import OWN, Dialect
from mpdispatch.store.sql import dead_letters, reads
from mpdispatch.store.sql.inserts import INSERT_UNLESS_KEY_IN_USE
from mpdispatch.store.sql.queries import QUERIES

_READ_LAZILY = {"due", "due_limited", "parked"}
"""Arms of SQLite's claim; `hot.sql` has this room's."""
_PART = {"unless_key_in_use"}


@pytest.fixture
def store(new_place: Callable[..., object]) -> PostgresStore:
    store = PostgresStore(str(new_place("postgres").location))  # type: ignore[attr-defined]
    store.migrate()
    return store


def prepare(store: PostgresStore, text: str) -> None:
    """Raises psycopg.Error unless the server takes this statement of the shared modules."""
    place = store._database.place
    wanted = Dialect(place.options.quoted_schema)(text)
    numbers = iter(range(1, 100))
    wanted = re.sub(r"%s|%\(\w+\)s", lambda _: f"${next(numbers)}", wanted).replace("%%", "%")
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute(f"PREPARE it AS {wanted}")


@pytest.mark.parametrize("name", sorted({*QUERIES} - _READ_LAZILY - _PART))
def test_a_shared_statement_is_understood(store: PostgresStore, name: str) -> None:
    prepare(store, QUERIES[name])


@pytest.mark.parametrize("name", sorted({*OWN} - {*QUERIES}))
def test_a_statement_of_this_room_is_understood(store: PostgresStore, name: str) -> None:
    prepare(store, OWN[name])


def composed() -> list[str]:
    replaced = ("insert_attempt", "insert_result", "insert_dead_letter")
    texts = [INSERT_UNLESS_KEY_IN_USE]
    texts += ["INSERT OR REPLACE" + QUERIES[name].removeprefix("INSERT") for name in replaced]
    for state in (None, *JobState):
        where = JobFilter(state=state, queue="a", name="b", batch_id=3)
        texts += [text for text, _ in reads.page_statements(where, 9, 5)]
        texts += [text for text, _ in reads.page_statements(JobFilter(state=state), None, 5)]
    for is_replayed in (True, False, None):
        letters = DeadLetterFilter(
            queue="a", name="b", is_replayed=is_replayed, failed_before_us=1, batch_id=3, error="e"
        )
        texts += [dead_letters.page_statement(letters, 9, with_error=each)[0] for each in (True, False)]
    texts += [QUERIES["crons"] + end for end in ("\nORDER BY c.name", "\nWHERE c.name = ?")]
    texts.append(QUERIES["batches"] + "\nWHERE name = ? AND ended_at_us IS NOT NULL\nORDER BY id DESC LIMIT ?")
    return texts


def test_a_composed_statement_is_understood(store: PostgresStore) -> None:
    for text in composed():
        prepare(store, text)


def test_what_is_no_word_of_both_is_an_error(store: PostgresStore) -> None:
    with pytest.raises(psycopg.errors.SyntaxError):
        prepare(store, "INSERT OR ROLLBACK INTO mpdispatch_meta (key, value) VALUES (?, ?)")


@pytest.mark.parametrize("schema", ["jobs", 'a"b', "Größe", "select"])
def test_tables_are_those_of_the_schema_whatever_its_name(
    new_place: Callable[..., object], schema: str
) -> None:
    place = new_place("postgres")
    store = PostgresStore(str(place.dsn), schema=f"{place.name}{schema}")  # type: ignore[attr-defined]
    try:
        store.check(create=True)
        assert store.counts()[JobState.PENDING] == 0
    finally:
        store.close_all()
        with psycopg.connect(place.dsn, autocommit=True) as connection:  # type: ignore[attr-defined]
            connection.execute(f"DROP SCHEMA {store._database.place.options.quoted_schema} CASCADE")
