"""A dataclass from JSON is as its own __init__ would have made it."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from mpdispatch.execution.codec import encode_result
from mpdispatch.handlers.signature import Signature


@dataclasses.dataclass
class Plain:
    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int
    y: int = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int
    y: int = 0


@dataclasses.dataclass
class Nested:
    inner: Plain
    others: list[Frozen]
    last: Plain | None = None


class Struct(msgspec.Struct):
    inner: Plain


@dataclasses.dataclass
class Node:
    """Of itself."""

    name: str = "leaf"
    below: list[Node] = dataclasses.field(default_factory=list)


def _passed(kind: Any, payload: bytes) -> Any:
    def handler(v: Any) -> None: ...

    handler.__annotations__["v"] = kind
    return Signature("handler", handler).decode(payload)["v"]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (Plain, b'{"v": {"x": 1}}', b'{"x":1,"y":0,"tags":[]}'),
        (Frozen, b'{"v": {"x": 1}}', b'{"x":1,"y":0}'),
        (Slotted, b'{"v": {"x": 1}}', b'{"x":1,"y":0}'),
        (list[Plain], b'{"v": [{"x": 1}]}', b'[{"x":1,"y":0,"tags":[]}]'),
        (dict[str, Frozen], b'{"v": {"a": {"x": 1}}}', b'{"a":{"x":1,"y":0}}'),
        (Frozen | None, b'{"v": {"x": 1, "y": 2}}', b'{"x":1,"y":2}'),
        (Struct, b'{"v": {"inner": {"x": 1}}}', b'{"inner":{"x":1,"y":0,"tags":[]}}'),
        (
            Nested,
            b'{"v": {"inner": {"x": 1}, "others": [{"x": 2}]}}',
            b'{"inner":{"x":1,"y":0,"tags":[]},"others":[{"x":2,"y":0}],"last":null}',
        ),
        (
            Node,
            b'{"v": {"below": [{}]}}',
            b'{"name":"leaf","below":[{"name":"leaf","below":[]}]}',
        ),
    ],
)
def test_fields_not_given_have_their_defaults_and_are_in_the_result(
    kind: Any, given: bytes, expected: bytes
) -> None:
    written = encode_result(_passed(kind, given), max_bytes=1000)
    assert msgspec.json.decode(written) == msgspec.json.decode(expected)
