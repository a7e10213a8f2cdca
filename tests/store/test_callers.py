"""`connection=` is what an app works with: a job is part of the transaction of SQLAlchemy, of Django, of the driver."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import django
import django.conf
import pytest
import sqlalchemy
import sqlite_utils
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from mpdispatch.errors import JobNotFoundError, UsageError
from mpdispatch.model import Job, NewJob
from mpdispatch.store import SQLiteStore, open_store
from mpdispatch.store.callers import driver_connection
from mpdispatch.store.contract import Store
from tests.extension.stand_ins import stand_in
from tests.servers.fixtures import Place

if not django.conf.settings.configured:
    django.conf.settings.configure(DATABASES={}, USE_TZ=True, LOGGING_CONFIG=None)
    django.setup()

from django.db import DatabaseError, connections, transaction
from django.db.transaction import TransactionManagementError
from django.utils.connection import ConnectionProxy

JOB = NewJob(name="a", payload=b'{"n":1}')
CHILD = NewJob(name="b", payload=b"{}", queue="other")

# Looked at in test_sqlite_shared.
pytestmark = pytest.mark.filterwarnings("ignore:.*its journal mode is switched:UserWarning")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


class App(NamedTuple):
    """An app with a table of orders, and where it is."""

    engine: sqlalchemy.Engine
    store: Store
    django_settings: dict[str, Any]


def in_sqlite(path: Path) -> App:
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    django_settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    return App(engine, SQLiteStore(path, shared=True), django_settings)


def in_postgres(place: Place) -> App:
    given = conninfo_to_dict(place.dsn)
    options = f"{given.pop('options', '')} -c search_path={place.name}"
    user, name = given.pop("user"), given.pop("dbname")
    url = sqlalchemy.URL.create("postgresql+psycopg", username=user, database=name, query=given)
    engine = sqlalchemy.create_engine(url, connect_args={"options": options})
    django_settings = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": user,
        "HOST": given["host"],
        "PORT": given["port"],
        "OPTIONS": {"options": options},
    }
    return App(engine, open_store(place.location), django_settings)


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest, path: Path) -> Iterator[App]:
    """An app whose jobs are kept in its own database."""
    is_sqlite = request.param == "sqlite"
    made = in_sqlite(path) if is_sqlite else in_postgres(request.getfixturevalue("new_place")("postgres"))
    if is_sqlite:
        Base.metadata.create_all(made.engine)
    made.store.migrate()
    Base.metadata.create_all(made.engine)
    yield made
    made.engine.dispose()
    made.store.close_all()


@pytest.fixture
def engine(app: App) -> sqlalchemy.Engine:
    return app.engine


@pytest.fixture
def shop(app: App) -> Store:
    return app.store


sqlite_only = pytest.mark.parametrize("app", ["sqlite"], indirect=True)


@pytest.fixture
def database(app: App) -> Iterator[Any]:
    """What an app has in `django.db.connections`, under the name "shop"."""
    settings = {
        **dict.fromkeys(("USER", "PASSWORD", "HOST", "PORT"), ""),
        "OPTIONS": {},
        "TIME_ZONE": None,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
        "AUTOCOMMIT": True,
        "ATOMIC_REQUESTS": False,
        "TEST": {},
        **app.django_settings,
    }
    kind = import_module(f"{settings['ENGINE']}.base").DatabaseWrapper
    connections["shop"] = wrapper = kind(settings, "shop")
    yield wrapper
    wrapper.close()
    del connections["shop"]


def is_there(shop: Store, job: Job) -> bool:
    try:
        return shop.get(job.id).name == job.name
    except JobNotFoundError:
        return False


def orders(app: App) -> int:
    with app.engine.connect() as connection:
        return connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(Order)).scalar_one()


# ---------------------------------------------------------------- SQLAlchemy


@pytest.mark.parametrize("has_order", [True, False])
@pytest.mark.parametrize("is_committed", [True, False])
def test_a_connection_that_commits_as_it_goes(
    engine: sqlalchemy.Engine, shop: Store, app: App, has_order: bool, is_committed: bool
) -> None:
    with engine.connect() as connection:
        if has_order:
            connection.execute(sqlalchemy.insert(Order))
        job = shop.enqueue(JOB, connection=connection)
        assert not is_there(shop, job)
        if is_committed:
            connection.commit()
    assert is_there(shop, job) is is_committed
    assert orders(app) == (has_order and is_committed)


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_block_of_a_connection(engine: sqlalchemy.Engine, shop: Store, app: App, is_committed: bool) -> None:
    with engine.connect() as connection, connection.begin() as block:
        connection.execute(sqlalchemy.insert(Order))
        job = shop.enqueue(JOB, connection=connection)
        if not is_committed:
            block.rollback()
    assert (is_there(shop, job), orders(app)) == (is_committed, is_committed)


@pytest.mark.parametrize("kind", [Session, scoped_session])
@pytest.mark.parametrize("has_order", [True, False])
@pytest.mark.parametrize("is_committed", [True, False])
def test_a_session(
    engine: sqlalchemy.Engine, shop: Store, app: App, kind: type, has_order: bool, is_committed: bool
) -> None:
    session = Session(engine) if kind is Session else scoped_session(sessionmaker(engine))
    if has_order:
        session.add(Order())
    job = shop.enqueue(JOB, connection=session)
    assert not is_there(shop, job)
    session.commit() if is_committed else session.rollback()
    assert is_there(shop, job) is is_committed
    assert orders(app) == (has_order and is_committed)
    session.close()


def test_a_session_goes_on_after_a_commit(engine: sqlalchemy.Engine, shop: Store) -> None:
    with Session(engine) as session:
        jobs = []
        for _ in range(3):
            session.add(Order())
            jobs.append(shop.enqueue(JOB, connection=session))
            session.commit()
    assert all(is_there(shop, job) for job in jobs)


def test_a_savepoint_that_is_rolled_back_takes_its_job_along(engine: sqlalchemy.Engine, shop: Store) -> None:
    with Session(engine) as session:
        session.add(Order())
        session.flush()
        outer = shop.enqueue(JOB, connection=session)
        inner = session.begin_nested()
        lost = shop.enqueue(JOB, connection=session)
        inner.rollback()
        session.commit()
    assert (is_there(shop, outer), shop.counts()["pending"]) == (True, 1)
    assert lost.id != outer.id


def test_a_job_with_parents_and_a_key_in_a_session(engine: sqlalchemy.Engine, shop: Store) -> None:
    with Session(engine) as session:
        parent = shop.enqueue(NewJob(name="a", payload=b"{}", idempotency_key="k"), connection=session)
        again = shop.enqueue(NewJob(name="a", payload=b"{}", idempotency_key="k"), connection=session)
        assert (again.id, again.created) == (parent.id, False)
        child = shop.enqueue(NewJob(name="b", payload=b"{}", after=(parent.id,)), connection=session)
        session.commit()
    assert [each.id for each in shop.parents(child.id)] == [parent.id]


def test_a_connection_in_autocommit_keeps_the_job_at_once(engine: sqlalchemy.Engine, shop: Store) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert is_there(shop, shop.enqueue(JOB, connection=connection))
        parent = shop.enqueue(JOB, connection=connection)
        child = NewJob(name="b", payload=b"{}", after=(parent.id,))
        assert is_there(shop, shop.enqueue(child, connection=connection))


@sqlite_only
def test_a_session_with_several_databases_is_told_to_name_one(
    engine: sqlalchemy.Engine, shop: Store, tmp_path: Path
) -> None:
    other = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with Session(binds={Order: engine}) as session:
        with pytest.raises(UsageError, match=r"no database of its own.*session\.connection\(bind_arguments"):
            shop.enqueue(JOB, connection=session)
        job = shop.enqueue(JOB, connection=session.connection(bind_arguments={"mapper": Order}))
        session.commit()
        assert is_there(shop, job)
    with Session(other) as session, pytest.raises(UsageError, match=r"other\.db, the store is .*jobs\.db"):
        shop.enqueue(JOB, connection=session)
    other.dispose()


def test_a_transaction_that_has_failed_says_so_itself(engine: sqlalchemy.Engine, shop: Store) -> None:
    with Session(engine) as session:
        session.add_all([Order(id=1), Order(id=1)])
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            session.flush()
        with pytest.raises(sqlalchemy.exc.PendingRollbackError):
            shop.enqueue(JOB, connection=session)
        session.rollback()
        job = shop.enqueue(JOB, connection=session)
        session.commit()
    assert (is_there(shop, job), sum(shop.counts().values())) == (True, 1)


def test_what_the_pool_has_lent(engine: sqlalchemy.Engine, shop: Store) -> None:
    with closing(engine.raw_connection()) as raw:
        job = shop.enqueue(JOB, connection=raw)
        raw.commit()
        assert is_there(shop, job)
        assert driver_connection(raw) is driver_connection(raw.driver_connection) is raw.driver_connection


@sqlite_only
def test_a_database_of_sqlite_utils(shop: Store, engine: sqlalchemy.Engine, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        job = shop.enqueue(JOB, connection=sqlite_utils.Database(connection))
        connection.commit()
    assert is_there(shop, job)


# ---------------------------------------------------------------- Django


@pytest.fixture(params=["connections[name]", "connection"])
def django_connection(request: pytest.FixtureRequest, database: Any) -> Any:
    """As an app names it: `connections["shop"]`, or by a proxy as `django.db.connection` is one."""
    return connections["shop"] if request.param == "connections[name]" else ConnectionProxy(connections, "shop")


@pytest.mark.parametrize("is_committed", [True, False])
def test_an_atomic_block_of_django(django_connection: Any, shop: Store, app: App, is_committed: bool) -> None:
    with transaction.atomic(using="shop"):
        with django_connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders DEFAULT VALUES")
        job = shop.enqueue(JOB, connection=django_connection)
        assert not is_there(shop, job)
        if not is_committed:
            transaction.set_rollback(True, using="shop")
    assert (is_there(shop, job), orders(app)) == (is_committed, is_committed)


def test_a_block_of_django_that_begins_with_the_job(django_connection: Any, shop: Store) -> None:
    def work(new: NewJob) -> None:
        with transaction.atomic(using="shop"):
            shop.enqueue(new, connection=django_connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work(JOB)
    with transaction.atomic(using="shop"):
        job = shop.enqueue(JOB, connection=django_connection)
        with pytest.raises(ZeroDivisionError):
            work(CHILD)
    assert is_there(shop, job)
    assert {each.name for each in shop.queue_stats()} == {"default"}, "a savepoint took its job along"


def test_outside_of_a_block_django_commits_at_once(django_connection: Any, shop: Store) -> None:
    assert is_there(shop, shop.enqueue(JOB, connection=django_connection))


def test_django_without_autocommit(django_connection: Any, shop: Store) -> None:
    django_connection.set_autocommit(False)
    job = shop.enqueue(JOB, connection=django_connection)
    assert not is_there(shop, job)
    django_connection.commit()
    assert is_there(shop, job)


def test_a_block_of_django_that_will_be_rolled_back_takes_no_job(django_connection: Any, shop: Store) -> None:
    def fail() -> None:
        with transaction.atomic(using="shop", savepoint=False), django_connection.cursor() as cursor:
            cursor.execute("INSERT INTO no_such_table DEFAULT VALUES")

    with transaction.atomic(using="shop"):
        with pytest.raises(DatabaseError):
            fail()
        with pytest.raises(TransactionManagementError):
            shop.enqueue(JOB, connection=django_connection)
    assert shop.counts()["pending"] == 0


# ---------------------------------------------------------------- refused


def bare(kind: type) -> Any:
    """An object of this type that was made without what it needs."""
    return object.__new__(kind)


AWAITED: dict[str, Callable[[], Any]] = {
    "AsyncSession": lambda: bare(AsyncSession),
    "AsyncConnection": lambda: bare(AsyncConnection),
    "async_scoped_session": lambda: bare(async_scoped_session),
    "aiosqlite": lambda: stand_in("aiosqlite.core", "Connection"),
    "psycopg": lambda: stand_in("psycopg.connection_async", "AsyncConnection"),
}


@pytest.mark.parametrize("make", AWAITED.values(), ids=AWAITED)
def test_what_is_awaited_is_refused_with_what_to_do(make: Callable[[], Any], shop: Store) -> None:
    given = make()
    with pytest.raises(UsageError) as raised:
        shop.enqueue(JOB, connection=given)
    text = str(raised.value)
    assert text.startswith(f"connection= is the {type(given).__name__}, where statements are awaited")
    assert "a Connection or Session of SQLAlchemy" in text
    assert text.endswith("or enqueue the job when the transaction has been committed")


def test_the_session_within_an_asynchronous_one_is_refused(shop: Store) -> None:
    class Dialect:
        name, driver, is_async = "sqlite", "aiosqlite", True

    within = stand_in("sqlalchemy.engine.base", "Connection", dialect=Dialect(), commit=lambda _: None)
    session = stand_in("sqlalchemy.orm.session", "Session", connection=lambda _: within)
    with pytest.raises(UsageError, match=r"connection= is on sqlite\+aiosqlite, where statements are awaited"):
        shop.enqueue(JOB, connection=session)


SOURCES: dict[str, Callable[[sqlalchemy.Engine], Any]] = {
    "Engine": lambda engine: engine,
    "AsyncEngine": lambda engine: bare(AsyncEngine),
    "sessionmaker": sessionmaker,
    "QueuePool": lambda engine: engine.pool,
    "ConnectionHandler": lambda engine: connections,
    "ConnectionPool": lambda engine: stand_in("psycopg_pool.pool", "ConnectionPool"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_makes_connections_is_refused(name: str, shop: Store, engine: sqlalchemy.Engine) -> None:
    with pytest.raises(
        UsageError, match=f"connection= is the {name}, which makes connections; give a connection"
    ):
        shop.enqueue(JOB, connection=SOURCES[name](engine))


def test_the_first_version_of_sqlalchemy_is_refused(shop: Store) -> None:
    """There, nobody would commit the transaction that an enqueue begins."""
    with pytest.raises(UsageError, match="SQLAlchemy 1; jobs take part in the transactions of SQLAlchemy 2"):
        shop.enqueue(JOB, connection=stand_in("sqlalchemy.engine.base", "Connection"))


@pytest.mark.parametrize("given", [3, "jobs.db", object()])
def test_anything_else_is_refused_by_the_store(given: Any, shop: Store) -> None:
    kind = type(given).__qualname__
    with pytest.raises(UsageError, match=rf"connection= is a builtins\.{kind}; give a (connection of|psycopg)"):
        shop.enqueue(JOB, connection=given)
