"""A location names a place and its options, and gives itself back; passwords are never shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from mpdispatch.errors import UsageError
from mpdispatch.store.postgres.options import Place, ServerOptions

names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=15
).filter(lambda name: not name.startswith("pg_"))
options = st.builds(
    ServerOptions,
    schema=names,
    durability=st.sampled_from([None, "process"]),
    pool_size=st.integers(1, 1000),
    proxy=st.sampled_from([None, True, False]),
)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(options)
def test_a_location_gives_its_options_back(given: ServerOptions) -> None:
    place = Place("postgresql://ann@db:5433/app?sslmode=require", given)
    assert Place.read(place.location) == place


@given(
    user=texts,
    password=texts.map("s3cret-".__add__),
    dbname=texts,
    host=st.sampled_from(["/run/pg", "db.example.com"]),
)
def test_the_url_of_parameters_means_them(user: str, password: str, dbname: str, host: str) -> None:
    place = Place.of_parameters(
        {"user": user, "password": password, "dbname": dbname, "host": host, "port": None}
    )
    assert conninfo_to_dict(place.dsn) == {"user": user, "password": password, "dbname": dbname, "host": host}
    assert Place.read(place.location) == place
    assert "s3cret-" not in place.display or "s3cret-" in f"{user}{dbname}"


@pytest.mark.parametrize(
    "url",
    [
        "postgres://ann:pw@db/app",
        "postgresql+psycopg://ann:pw@db/app",
        "postgresql+psycopg2://ann:pw@db/app",
        "POSTGRESQL://ann:pw@db/app",
    ],
)
def test_all_spellings_name_one_place(url: str) -> None:
    place = Place.read(url)
    assert place.location == "postgresql://ann:pw@db/app"
    assert place.display == "postgresql://ann:***@db/app"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql:db/app", "postgresql://USER@HOST/DATABASE"),
        ("mysql://db/app", "postgresql://USER@HOST/DATABASE"),
        ("postgresql://[::1/app", "is no URL"),
        ("postgresql://db/app#x", "%23"),
        ("postgresql://db/app?schema=", "schema"),
        ("postgresql://db/app?schema=pg_catalog", "pg_"),
        (f"postgresql://db/app?schema={'é' * 40}", "63 bytes"),
        ("postgresql://db/app?durability=none", "'full' or 'process'"),
        ("postgresql://db/app?pool_size=0", "1 to 1000"),
        ("postgresql://db/app?pool_size=many", "1 to 1000"),
        ("postgresql://db/app?proxy=maybe", "proxy must be 0 or 1"),
    ],
)
def test_a_bad_location_is_refused_by_what_is_wrong(url: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        Place.read(url)
    assert told in str(caught.value)


def test_a_refusal_shows_no_password() -> None:
    for url in ("postgresql://ann:s3cret@[db/app", "postgresql://ann:s3cret@db/app?pool_size=0"):
        with pytest.raises(UsageError) as caught:
            Place.read(url)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None


@given(st.lists(names, min_size=2, max_size=2, unique=True))
def test_schemas_have_locks_and_channels_of_their_own(schemas: list[Any]) -> None:
    first, second = (ServerOptions(schema=name) for name in schemas)
    assert first.lock_key != second.lock_key
    assert first.channel("work") != second.channel("work") != second.channel("ends")
    assert all(-(1 << 31) <= half < 1 << 31 for half in first.lock_key)
