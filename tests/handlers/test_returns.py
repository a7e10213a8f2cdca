"""Which return annotations are refused because JSON cannot keep such a result, and which are left alone."""

from __future__ import annotations

import collections
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, NewType, NoReturn, Protocol, TypedDict, TypeVar

import msgspec
import numpy as np
import pydantic
import pytest

from mpdispatch.errors import RegistrationError
from mpdispatch.handlers.registry import JobDefinition

T = TypeVar("T")


class Session:
    """Nothing of ours."""


class Base:
    """The base of a dataclass."""


@dataclass
class Impl(Base):
    x: int


class Abstract(ABC):
    @abstractmethod
    def act(self) -> None: ...


class Duck(Protocol):
    x: int


class Text(str):
    __slots__ = ()


@dataclass
class Holds:
    session: Session


@dataclass
class MayHold:
    session: Session | None = None
    _private: Session = field(default_factory=Session)


class Struct(msgspec.Struct):
    sessions: list[Session]


class Row(TypedDict):
    session: Session


class Point(NamedTuple):
    x: int


class Model(pydantic.BaseModel):
    x: int


@dataclass
class Tree(Generic[T]):
    value: T
    children: list[Tree[T]]


REFUSED: list[tuple[Any, str]] = [
    (Session, r"Session cannot be written"),
    (list[Session], "Session"),
    (dict[str, Session], "Session"),
    (tuple[int, Session], "Session"),
    (tuple[Session, ...], "Session"),
    (Holds, "Session"),
    (Struct, "Session"),
    (Row, "Session"),
    (complex, "complex cannot"),
    (io.BytesIO, "_io.BytesIO cannot"),
    (re.Pattern, "re.Pattern cannot"),
    (collections.deque, "collections.deque cannot"),
    (range, "range cannot"),
    (dict[int, str], "keys that are numbers would become strings"),
    (list[dict[int, str]], "keys"),
]
ALLOWED: list[Any] = [
    *(None, Any, object, int, str, bytes, float, dict, list, dict[str, Any], list[T], T, NoReturn, "Nowhere"),  # type: ignore[valid-type]
    *(
        Session | None,
        int | Session,
        Base,
        Abstract,
        Duck,
        Text,
        Impl,
        MayHold,
        Point,
        Model,
        list[Model],
        Path,
    ),
    *(Tree[int], np.ndarray, np.float64, Iterator[int], Iterable[int], Sequence[int], Mapping[str, int]),
    *(Callable[[], int], Awaitable[int], Literal["a"], NewType("Number", int), Impl | Model, set[str]),
    *(collections.OrderedDict[str, int], collections.Counter[str], list["Nowhere"]),  # type: ignore[name-defined]  # noqa: F821
]


def definition(annotation: Any) -> JobDefinition:
    def handler() -> Any: ...

    handler.__annotations__["return"] = annotation
    return JobDefinition(name="convert", function=handler)


@pytest.mark.parametrize(("annotation", "why"), REFUSED, ids=str)
def test_what_cannot_be_kept_is_refused_at_once_and_named(annotation: Any, why: str) -> None:
    with pytest.raises(RegistrationError, match=rf"job 'convert': its result, annotated as .*{why}"):
        definition(annotation)


@pytest.mark.parametrize("annotation", ALLOWED, ids=str)
def test_what_may_be_kept_is_left_alone(annotation: Any) -> None:
    definition(annotation)


def test_a_handler_without_an_annotation_is_left_alone() -> None:
    def handler():  # type: ignore[no-untyped-def]
        ...

    assert JobDefinition(name="convert", function=handler).returns.read({"a": 1}) == {"a": 1}
