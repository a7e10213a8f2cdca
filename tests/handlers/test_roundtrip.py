"""For every type a parameter may have: the handler gets what was passed, or the call is refused by name."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field

from mpdispatch.errors import PayloadError, RegistrationError, ResultError
from mpdispatch.execution.codec import encode_result
from mpdispatch.handlers.signature import Signature

MAX = 1 << 20


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Size(TypedDict, total=False):
    width: int
    unit: str


class Corner(NamedTuple):
    x: int
    file: Path


@dataclass
class Point:
    x: float
    colour: Colour
    size: Size = field(default_factory=Size)  # type: ignore[arg-type]


@dataclass
class Point3(Point):
    z: int = 0


class Box(msgspec.Struct, rename="camel"):
    box_name: str
    corner_points: list[Point]
    when: datetime | None = None


class Item(BaseModel):
    name: str
    price: Decimal = Decimal(1)
    when: datetime | None = None
    tags: frozenset[str] = frozenset()


class Strict(BaseModel):
    """As strict as models get: no coercion, no further keys, another name outside."""

    model_config = ConfigDict(strict=True, extra="forbid")
    day: date = Field(alias="theDay")
    items: list[Item] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def count(self) -> int:
        return len(self.items)


class Numbers(RootModel[list[int]]):
    pass


class Secretive(BaseModel):
    shown: int = 0
    hidden: int = Field(default=0, exclude=True)


@dataclass
class Order:
    item: Item
    box: Box | None = None


def signature(annotation: object) -> Signature:
    def handler(value): ...  # type: ignore[no-untyped-def]

    handler.__annotations__ = {"value": annotation}
    return Signature("handler", handler)


def there_and_back(annotation: object, value: Any) -> Any:
    signed = signature(annotation)
    return signed.decode(signed.encode((value,), {}, max_bytes=MAX))["value"]


def fault_of(annotation: object, value: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        there_and_back(annotation, value)
    return str(caught.value)


# ---------------------------------------------------------------- properties

text = st.text(st.characters(codec="utf-8"), max_size=8)
zones = st.one_of(
    st.none(), st.just(UTC), st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
)
berlin = st.datetimes(min_value=datetime(1990, 1, 1), timezones=st.just(ZoneInfo("Europe/Berlin")))
moments = st.datetimes(timezones=zones)
paths = text.filter(lambda name: "\0" not in name).map(Path)
colours, levels = st.sampled_from(Colour), st.sampled_from(Level)
numbers = st.integers(-(1 << 63), (1 << 64) - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
sizes = st.fixed_dictionaries({}, optional={"width": numbers, "unit": text})
points = st.builds(Point, floats, colours, sizes)
boxes = st.builds(Box, text, st.lists(points, max_size=2), st.none() | moments)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
items = st.builds(
    Item, name=text, price=decimals, when=st.none() | moments, tags=st.frozensets(text, max_size=3)
)

TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "bool": (bool, st.booleans()),
    "int": (int, st.integers()),
    "float": (float, floats),
    "str": (str, text),
    "bytes": (bytes, st.binary(max_size=9)),
    "datetime": (datetime, moments),
    "date": (date, st.dates()),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas()),
    "decimal": (Decimal, st.decimals(allow_nan=False)),
    "uuid": (UUID, st.uuids()),
    "path": (Path, paths),
    "enum": (Colour, colours),
    "int enum": (Level, levels),
    "literal": (Literal["a", 3, None], st.sampled_from(["a", 3, None])),
    "optional": (Path | None, st.none() | paths),
    "union": (int | str | list[Path] | None, st.none() | numbers | text | st.lists(paths, max_size=2)),
    "list": (list[Path], st.lists(paths, max_size=3)),
    "tuple": (tuple[int, Colour, Path], st.tuples(numbers, colours, paths)),
    "tuple of any length": (tuple[date, ...], st.lists(st.dates(), max_size=3).map(tuple)),
    "set": (set[UUID], st.sets(st.uuids(), max_size=3)),
    "frozenset": (frozenset[Colour], st.frozensets(colours)),
    "dict": (dict[str, Decimal], st.dictionaries(text, decimals, max_size=3)),
    "dict by enum": (dict[Colour, int], st.dictionaries(colours, numbers)),
    "dict by int": (dict[int, Path], st.dictionaries(numbers, paths, max_size=3)),
    "dict by uuid": (dict[UUID, bytes], st.dictionaries(st.uuids(), st.binary(max_size=5), max_size=3)),
    "typed dict": (Size, sizes),
    "named tuple": (Corner, st.builds(Corner, numbers, paths)),
    "dataclass": (Point, points),
    "struct": (Box, boxes),
    "pydantic": (Item, items),
    "pydantic, strict": (
        Strict,
        st.builds(lambda d, i: Strict(theDay=d, items=i), st.dates(), st.lists(items)),
    ),
    "pydantic, root": (Numbers, st.lists(numbers, max_size=3).map(Numbers)),
    "pydantic in a list": (list[Item], st.lists(items, max_size=2)),
    "nested": (
        dict[str, list[Order]],
        st.dictionaries(text, st.lists(st.builds(Order, items, boxes), max_size=2)),
    ),
}


@pytest.mark.parametrize("kind", TYPES)
def test_the_handler_gets_what_was_passed(kind: str) -> None:
    annotation, values = TYPES[kind]
    signed = signature(annotation)

    @given(values)
    def check(value: Any) -> None:
        came_back = signed.decode(signed.encode((value,), {}, max_bytes=MAX))["value"]
        assert came_back == value
        assert type(came_back) is type(value)

    check()


@given(berlin)
def test_a_time_in_a_zone_comes_back_as_the_same_moment(moment: datetime) -> None:
    assert there_and_back(datetime, moment).timestamp() == moment.timestamp()


@pytest.mark.parametrize("kind", TYPES)
def test_a_value_of_another_type_is_refused_or_converted_as_annotated(kind: str) -> None:
    """Whatever is passed: the handler never gets something else without the annotation asking for it."""
    annotation, _ = TYPES[kind]
    signed = signature(annotation)
    others = st.one_of(*(values for _, values in TYPES.values()))

    @given(others)
    def check(value: Any) -> None:
        try:
            payload = signed.encode((value,), {}, max_bytes=MAX)
        except PayloadError as refused:
            keys = {fault.key[:5] for fault in refused.faults}
        else:
            keys = {"value"}
            came_back = signed.decode(payload)["value"]
            is_plain = isinstance(value, (str, int, float, bool, list, tuple, dict, set, frozenset, type(None)))
            assert is_plain or came_back == value
        assert keys == {"value"}

    check()


@given(items)
def test_a_result_of_any_of_these_types_is_kept_as_json(item: Item) -> None:
    written = encode_result({"items": [item], "at": Path("a"), "ids": {1}}, max_bytes=MAX)
    assert msgspec.json.decode(written)["items"][0]["name"] == item.name


# ---------------------------------------------------------------- what would come back changed


def test_a_key_that_a_typed_dict_or_class_has_not_is_named_with_those_it_has() -> None:
    assert "value: has no field 'wdith'; it has: width" in fault_of(Size, {"width": 1, "wdith": 2})
    assert "value: has no field 'why'; it has: x, colour, size" in fault_of(
        Point, {"x": 1.0, "colour": "red", "why": 0}
    )
    assert "boxname" in fault_of(Box, {"boxName": "a", "cornerPoints": [], "boxname": "b"})
    assert there_and_back(Point, {"x": 1.0, "colour": "red"}) == Point(1.0, Colour.RED)


def test_a_subclass_that_would_be_cut_down_is_refused() -> None:
    assert "get Point instead of Point3" in fault_of(Point, Point3(1.0, Colour.RED))
    assert "value[0]: the handler would get Point" in fault_of(list[Point], [Point3(1.0, Colour.RED)])


@pytest.mark.parametrize("value", [Path("a"), Colour.RED, UUID(int=1), date(2026, 1, 1), Decimal("1.0")])
def test_a_rich_value_for_a_plain_parameter_is_refused_with_the_remedy(value: object) -> None:
    message = fault_of(str, value)
    assert "the handler would get str instead of" in message
    assert "annotate it as" in message


def test_what_a_pydantic_model_does_not_give_back_is_named() -> None:
    assert "value.hidden: 5 would come back as 0" in fault_of(Secretive, Secretive(hidden=5))
    assert there_and_back(Secretive, Secretive(shown=1)) == Secretive(shown=1)
    assert "price: Input should be a valid decimal" in fault_of(Item, {"name": "a", "price": "x"})
    assert "name: Field required" in fault_of(Item, {})


def test_an_offset_with_seconds_is_refused_because_json_times_have_none() -> None:
    moment = datetime(1880, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert ".astimezone(UTC)" in fault_of(datetime, moment)
    assert there_and_back(datetime, moment.astimezone(UTC)) == moment


# ---------------------------------------------------------------- errors name what is allowed


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Colour, "blue", ["value: Invalid enum value 'blue'", "'red', 'green'"]),
        (Literal["a", "b"], "c", ["allowed: 'a', 'b'"]),
        (list[Colour] | None, ["red", "x"], ["value[1]", "allowed: 'red', 'green'"]),
        (datetime, "tomorrow", ["value: Invalid RFC3339 encoded datetime: 'tomorrow'"]),
        (int, "5", ["value: Expected `int`, got `str`"]),
        (Point, {"x": "1", "colour": "red"}, ["value.x: Expected `float`, got `str`"]),
        (Any, {"a": [1, object()]}, ["value.a[1]: a value of type object cannot be written as JSON"]),
        (dict[tuple[int, int], int], {(1, 2): 3}, ["use strings as keys"]),
    ],
)
def test_a_misfit_names_the_place_and_what_is_allowed(annotation: object, value: Any, words: list[str]) -> None:
    message = fault_of(annotation, value)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (str | Path, "alone or beside None"),
        (Item | Strict, "alone or beside None"),
        (str | datetime, "cannot tell them apart"),
        (Point | Order, "tagged msgspec Structs"),
        (complex, "complex cannot be rebuilt from JSON"),
    ],
)
def test_an_annotation_json_cannot_serve_is_refused_in_plain_words(annotation: object, words: str) -> None:
    with pytest.raises(RegistrationError, match=words):
        signature(annotation)


def test_a_result_that_cannot_be_kept_names_the_part_that_cannot() -> None:
    with pytest.raises(ResultError, match=r"result\.pages\[1\]: a value of type _thread.lock"):
        encode_result({"pages": [1, threading.Lock()]}, max_bytes=MAX)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ResultError, match="contains itself"):
        encode_result(endless, max_bytes=MAX)


def test_each_type_of_a_result_becomes_what_the_documentation_says() -> None:
    result = {
        "struct": Box("b", [Point(1.5, Colour.RED)]),
        "model": Strict(theDay=date(2026, 3, 1)),
        "tuple": (1, Corner(2, Path("a/b"))),
        "set": {7},
        "bytes": b"\xff",
        "decimal": Decimal("1.10"),
        "uuid": UUID(int=1),
        "enum": [Colour.RED, Level.HIGH],
        "datetime": datetime(2026, 3, 1, tzinfo=UTC),
        "timedelta": timedelta(days=1, seconds=2),
    }
    assert msgspec.json.decode(encode_result(result, max_bytes=MAX)) == {
        "struct": {"boxName": "b", "cornerPoints": [{"x": 1.5, "colour": "red", "size": {}}], "when": None},
        "model": {"theDay": "2026-03-01", "items": [], "count": 0},
        "tuple": [1, [2, "a/b"]],
        "set": [7],
        "bytes": "/w==",
        "decimal": "1.10",
        "uuid": "00000000-0000-0000-0000-000000000001",
        "enum": ["red", 2],
        "datetime": "2026-03-01T00:00:00Z",
        "timedelta": "P1DT2S",
    }
