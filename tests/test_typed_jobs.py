"""The result of a job has the type that its handler returns: for type checkers, and when it is read back.

`scripts/check` runs mypy over this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, assert_type
from uuid import UUID

import msgspec
import pytest

from mpdispatch import Engine, Job, UsageError, job
from mpdispatch.errors import ResultError
from mpdispatch.model import NewJob
from tests.clock import FakeClock
from tests.store.conftest import Desk, completed

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass
class Size:
    width: int
    height: int = 7


@dataclass
class Page:
    path: Path
    size: Size
    at: datetime
    tags: tuple[str, ...] = ()


class Found(msgspec.Struct):
    sizes: dict[str, Size]


class Row(TypedDict):
    price: Decimal


class Point(NamedTuple):
    x: int
    y: int


class Colour(Enum):
    RED = "red"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine.open(tmp_path / "jobs.db")
    yield made
    made.store.close_all()


def run(engine: Engine, result: bytes) -> None:
    """The next job completes with this result."""
    desk = Desk(engine.store, FakeClock())
    (claimed,) = desk.claim()
    desk.commit(completed(claimed, desk.clock.now(), result))
    desk.close()


def test_what_type_checkers_say(engine: Engine) -> None:
    @engine.job
    def measure(path: str) -> Size:
        return Size(len(path))

    @engine.job(queue="bulk")
    async def count(path: str) -> int:
        return len(path)

    @job
    def later() -> None: ...

    first = measure.enqueue("a.png")
    assert_type(first, Job[Size])
    assert_type(measure.options(delay=5).enqueue(path="a.png"), Job[Size])
    assert_type(count.enqueue("a.png"), Job[int])
    assert_type(engine.register(later).enqueue(), Job[None])
    assert_type(engine.enqueue("measure", path="a.png"), Job[Any])
    assert_type(engine.get_job(first.id), Job[Any])
    jobs: list[Job] = [first]
    base: Job[object] = first
    assert jobs == [base]

    def waits(number: int) -> None:
        assert_type(engine.wait(first), Job[Size])
        assert_type(engine.wait(number), Job[Any])
        assert_type(first.wait(), Size)
        assert_type(count.enqueue("a").wait(timeout=3), int)
        assert_type(engine.wait_first([first]), Job[Size])
        for each in engine.as_completed([first, first]):
            assert_type(each, Job[Size])
        for some in engine.as_completed([first, number]):
            assert_type(some, Job[Any])
        for one in engine.as_completed(measure.enqueue_many([])):
            assert_type(one, Job[Any])

        for size in engine.map(measure, ["a.png"], ordered=False):
            assert_type(size, Size)
        assert_type(next(engine.map(count.options(priority=1), ["a.png"])), int)
        assert_type(list(engine.map("measure", ["a.png"])), list[Any])

    async def waits_async() -> None:
        assert_type(await measure.enqueue_async("a.png"), Job[Size])
        assert_type(await count.enqueue_async("a.png"), Job[int])
        assert_type(await engine.wait_async(first), Job[Size])
        assert_type(await first.wait_async(), Size)
        async for each in engine.as_completed_async([first]):
            assert_type(each, Job[Size])

    assert callable(waits)
    assert callable(waits_async)


KEPT: list[tuple[Any, bytes, Any]] = [
    (
        Page,
        b'{"path":"a.pdf","size":{"width":3},"at":"2026-05-01T12:00:00Z","tags":["x"]}',
        Page(Path("a.pdf"), Size(3), NOON, ("x",)),
    ),
    (Found, b'{"sizes":{"a":{"width":1,"height":2}}}', Found({"a": Size(1, 2)})),
    (Row, b'{"price":"1.50"}', {"price": Decimal("1.50")}),
    (Point, b"[1,2]", Point(1, 2)),
    (Colour, b'"red"', Colour.RED),
    (list[Size] | None, b'[{"width":1}]', [Size(1)]),
    (list[Size] | None, b"null", None),
    (tuple[int, Path], b'[1,"a"]', (1, Path("a"))),
    (set[str], b'["a","b"]', {"a", "b"}),
    (datetime, b'"2026-05-01T12:00:00Z"', NOON),
    (timedelta, b'"PT90S"', timedelta(seconds=90)),
    (UUID, b'"00000000-0000-0000-0000-000000000007"', UUID(int=7)),
    (bytes, b'"aGk="', b"hi"),
    (float, b"3", 3.0),
    (dict[str, Any], b'{"a":[1]}', {"a": [1]}),
    (Any, b'{"a":1}', {"a": 1}),
    (None, b"null", None),
    (None, b"5", 5),
    ("Size", b'{"width":4}', Size(4)),
    ("Nowhere", b'{"width":4}', {"width": 4}),
    (Size | Found, b'{"width":4}', {"width": 4}),
]


@pytest.mark.parametrize(("annotation", "stored", "value"), KEPT, ids=[str(each[0]) for each in KEPT])
def test_a_result_is_read_back_as_its_annotation_says(
    engine: Engine, annotation: Any, stored: bytes, value: Any
) -> None:
    handler = returning(annotation)
    made = engine.register(handler).enqueue()
    run(engine, stored)
    found = made.wait(timeout=5)
    assert (type(found), found) == (type(value), value)
    assert asyncio.run(engine.get_job(made.id).wait_async(5)) == value
    assert engine.wait(made).result == msgspec.json.decode(stored), "which is the JSON itself"


def returning(annotation: Any) -> Callable[[], Any]:
    def handler() -> Any: ...

    handler.__annotations__["return"] = annotation
    return handler


def test_a_result_that_does_not_fit_says_where_it_can_be_had(engine: Engine) -> None:
    made = engine.register(returning(Size)).enqueue()
    run(engine, b'{"width":"wide"}')
    with pytest.raises(ResultError, match=r"`int`, got `str` - at `\$\.width`; engine\.wait\(job\)\.result"):
        made.wait(timeout=5)
    assert engine.wait(made).result == {"width": "wide"}


def test_a_job_knows_its_engine_and_nobody_sees_it(engine: Engine) -> None:
    made = engine.register(returning(int)).enqueue()
    read = engine.store.get(made.id)
    assert read == made
    assert msgspec.json.encode(read) == msgspec.json.encode(made)
    assert msgspec.structs.asdict(read) == msgspec.structs.asdict(made)
    run(engine, b"5")
    for known in (engine.get_job(made.id), engine.wait(made), *engine.as_completed([made])):
        assert known.wait(timeout=5) == 5
    with pytest.raises(UsageError, match=rf"read from a store.*engine\.wait\({made.id}\)"):
        read.wait()
    assert engine.wait(read).result == 5


def test_a_client_without_the_handler_gives_plain_data(engine: Engine) -> None:
    made = engine.add_job(NewJob(name="elsewhere", payload=b"{}"))
    run(engine, b'{"width":4}')
    assert made.wait(timeout=5) == {"width": 4}
