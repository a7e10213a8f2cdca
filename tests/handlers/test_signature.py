"""Arguments go to JSON and come back as they were, or are refused by name."""

from __future__ import annotations

import contextlib
import enum
import math
import timeit
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.errors import PayloadError, RegistrationError, UnknownJobError
from mpdispatch.handlers.signature import Signature

MAX = 1 << 20


@dataclass
class Point:
    x: int
    y: int = 0
    next: Point | None = None


class Box(msgspec.Struct):
    name: str
    points: list[Point]


class Colour(enum.Enum):
    RED = "red"


class Size(TypedDict):
    width: int
    height: int


@dataclass
class Loose:
    extra: Any
    by_number: dict[int, str] = field(default_factory=dict)


class Opaque:
    pass


def render(path: str, dpi: int = 300, *, ratio: float = 1.0, extra: Any = None) -> None: ...


def typed(
    point: Point | None = None,
    box: Box | None = None,
    colour: Colour | None = None,
    size: Size | None = None,
    when: datetime | None = None,
    day: date | None = None,
    pause: timedelta | None = None,
    key: UUID | None = None,
    price: Decimal | None = None,
    file: Path | None = None,
    numbers: dict[int, float] | None = None,
    pair: tuple[int, str] | None = None,
    tags: set[str] | None = None,
    blob: bytes | None = None,
    loose: Loose | None = None,
) -> None: ...


RENDER = Signature("render", render)
TYPED = Signature("typed", typed)


def there_and_back(signature: Signature, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return signature.decode(signature.encode(args, kwargs, max_bytes=MAX))


def faults_of(signature: Signature, *args: Any, **kwargs: Any) -> dict[str, str]:
    with pytest.raises(PayloadError) as caught:
        signature.encode(args, kwargs, max_bytes=MAX)
    return {fault.key: fault.message for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("point", Point(1, 2, Point(3))),
        ("box", Box("b", [Point(1)])),
        ("colour", Colour.RED),
        ("size", {"width": 1, "height": 2}),
        ("when", datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)),
        ("day", date(2026, 3, 1)),
        ("pause", timedelta(days=1, microseconds=3)),
        ("key", UUID(int=5)),
        ("price", Decimal("1.10")),
        ("file", Path("a/b.txt")),
        ("numbers", {1: 2.5}),
        ("pair", (1, "a")),
        ("tags", {"a", "b"}),
        ("blob", b"\x00\xff"),
        ("loose", Loose({"a": [1]}, {1: "x"})),
    ],
)
def test_a_typed_argument_comes_back_as_it_was(name: str, value: object) -> None:
    assert there_and_back(TYPED, **{name: value}) == {name: value}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_every_json_value_comes_back_as_it_was(value: object) -> None:
    assert there_and_back(RENDER, "p", extra=value) == {"path": "p", "extra": value}


def test_defaults_are_not_stored() -> None:
    assert RENDER.encode(("a.pdf",), {}, max_bytes=MAX) == b'{"path":"a.pdf"}'
    assert there_and_back(RENDER, "a.pdf") == {"path": "a.pdf"}


def test_a_default_of_any_kind_is_left_to_the_function() -> None:
    def odd(x: int = Opaque()) -> None: ...  # type: ignore[assignment]

    assert Signature("odd", odd).decode(b"{}") == {}


def test_everything_wrong_with_a_call_is_named_at_once() -> None:
    found = faults_of(RENDER, "a", "b", dip=1, ratio="x")
    assert found.keys() == {"dpi", "dip", "ratio"}
    assert "path, dpi, ratio, extra" in found["dip"]
    assert faults_of(RENDER) == {"path": "is missing"}
    assert faults_of(RENDER, "a", path="b") == {"path": "was given twice"}
    assert "3 were given" in faults_of(RENDER, "a", 1, 2.0)[""]


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "nan"),
        ({"a": [1, math.inf]}, "inf"),
        ({1: "a"}, "key 1"),
        ([{"deep": {None: 1}}], "keys"),
        ("\ud800", "surrogate"),
        ({"\udfff": 1}, "surrogate"),
        (nested(201), "200"),
        (cyclic(), "contains itself"),
        ([10**5000], "digits"),
        (Opaque(), "Opaque"),
        (datetime(2026, 1, 1, tzinfo=UTC), "annotated"),
        ([Point(1)], "annotated"),
        ({1, 2}, "annotated"),
    ],
)
def test_a_value_json_would_change_is_refused_by_its_name(value: object, text: str) -> None:
    found = faults_of(RENDER, "p", extra=value)
    assert len(found) == 1
    key, message = next(iter(found.items()))
    assert key.startswith("extra")
    assert text in message


def test_nesting_of_200_is_allowed() -> None:
    assert there_and_back(RENDER, "p", extra=nested(200))["extra"] == nested(200)


def test_many_brackets_in_text_are_no_nesting() -> None:
    assert there_and_back(RENDER, "[" * 1000) == {"path": "[" * 1000}


def test_nan_in_a_typed_argument_is_named_as_nan() -> None:
    assert "nan" in faults_of(RENDER, "p", ratio=math.nan)["ratio"]
    assert "inf" in faults_of(TYPED, numbers={1: math.inf})["numbers[1]"]


def test_none_beside_plain_values_is_no_nan() -> None:
    assert there_and_back(RENDER, "p", extra=[None, "null"])["extra"] == [None, "null"]


def test_keys_beneath_an_untyped_field_of_a_dataclass_must_be_strings() -> None:
    assert "key 1" in faults_of(TYPED, loose=Loose({"deep": {1: 2}}, {1: "kept"}))["loose.extra.deep"]


def test_a_too_large_payload_names_its_largest_argument() -> None:
    with pytest.raises(PayloadError) as caught:
        RENDER.encode(("x" * 100,), {"extra": 1}, max_bytes=50)
    assert caught.value.faults[0].key == "path"
    assert "50 are allowed" in caught.value.faults[0].message


def test_an_equality_that_raises_does_not_reach_the_caller() -> None:
    class Rude(msgspec.Struct):
        x: int

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

    def handler(value): ...  # type: ignore[no-untyped-def]

    handler.__annotations__ = {"value": Rude}
    assert Signature("h", handler).encode((Rude(1),), {}, max_bytes=MAX) == b'{"value":{"x":1}}'


# ---------------------------------------------------------------- in the worker


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (b'{"path":1}', "path"),
        (b'{"path":"a","dip":1}', "dip"),
        (b"{}", "path"),
        (b"[]", ""),
        (b"{", ""),
        (b"\xff", ""),
        # Python 3.11 follows 1,000, 3.13 10,000, and 3.14 as many as its stack holds.
        (b'{"path":"a","extra":' + b"[" * 400_000 + b"]" * 400_000 + b"}", ""),
    ],
)
def test_a_stored_payload_that_does_not_fit_is_refused_by_name(payload: bytes, key: str) -> None:
    with pytest.raises(PayloadError) as caught:
        RENDER.decode(payload)
    assert key in {fault.key for fault in caught.value.faults}


@given(st.binary())
def test_any_bytes_as_payload_give_arguments_or_a_payload_error(payload: bytes) -> None:
    with contextlib.suppress(PayloadError):
        RENDER.decode(payload)


# ---------------------------------------------------------------- registration


def test_a_signature_that_cannot_be_called_by_name_is_refused_with_the_reason() -> None:
    def args(*files: str) -> None: ...
    def kwargs(**options: str) -> None: ...
    def positional(path: str, /) -> None: ...

    for function, text in ((args, r"\*files"), (kwargs, r"\*\*options"), (positional, "positional-only.*path")):
        with pytest.raises(RegistrationError, match=text):
            Signature("f", function)


def test_an_annotation_that_cannot_be_resolved_is_refused_by_parameter() -> None:
    def missing(a: int, b: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(RegistrationError, match=r"'b'.*Missing"):
        Signature("f", missing)


@pytest.mark.parametrize("annotation", [Opaque, list[Opaque], complex, str | bytes, "Opaque | None"])
def test_an_annotation_that_json_cannot_rebuild_is_refused_by_parameter(annotation: object) -> None:
    def handler(a: int, thing): ...  # type: ignore[no-untyped-def]

    handler.__annotations__["thing"] = annotation
    with pytest.raises(RegistrationError, match="'thing'"):
        Signature("f", handler)


def test_the_return_annotation_need_not_be_resolvable() -> None:
    def handler(a: int) -> Missing: ...  # type: ignore[name-defined]  # noqa: F821

    assert Signature("f", handler).names == ("a",)


def test_constraints_of_an_annotation_are_checked() -> None:
    def handler(dpi: Annotated[int, msgspec.Meta(ge=1)]) -> None: ...

    with pytest.raises(PayloadError, match="dpi: Expected `int` >= 1"):
        Signature("f", handler).encode((0,), {}, max_bytes=MAX)


def test_a_plain_call_costs_a_few_microseconds() -> None:
    best = min(timeit.repeat(lambda: RENDER.encode(("a",), {"dpi": 3}, max_bytes=MAX), number=2000, repeat=5))
    # Budget 4 µs; the bound leaves room for a busy machine.
    assert best / 2000 < 20e-6


def test_a_message_stays_short_whatever_was_passed() -> None:
    signature = Signature("render", render)
    huge = "x" * 1_000_000
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {huge: 1}),
        ((), {f"unknown_{n}": n for n in range(20_000)}),
        (("a",), {"extra": {(1,) * 100_000: 1}}),
        (("a",), {"extra": [{huge: Opaque()}]}),
        ((["x" * 100_000] * 100,), {}),
    ]
    for args, kwargs in calls:
        with pytest.raises(PayloadError) as refused:
            signature.encode(args, kwargs, max_bytes=MAX)
        assert len(str(refused.value)) < 5000
    error = UnknownJobError(huge, known=["render"])
    assert (error.name, len(str(error)) < 400) == (huge, True)
