"""Results and exceptions become something that can be kept, whatever they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.errors import ResultError
from mpdispatch.execution.codec import MAX_TRACEBACK_BYTES, encode_result, error_info


@dataclass
class Report:
    pages: int
    at: datetime


def test_results_become_json() -> None:
    assert encode_result(None, max_bytes=10) == b"null"
    assert encode_result({"pages": 3}, max_bytes=100) == b'{"pages":3}'
    report = Report(3, datetime(2026, 1, 1, tzinfo=UTC))
    assert encode_result([report], max_bytes=100) == b'[{"pages":3,"at":"2026-01-01T00:00:00Z"}]'


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        {"a": -math.inf},
        Report(1, math.nan),  # type: ignore[arg-type]
        {1: "a", "1": "b"},
        {"a": {1: 2}},
        "\ud800",
        object(),
        cyclic(),
        [10**5000],
        (x for x in ()),
    ],
)
def test_a_result_json_cannot_keep_is_refused(value: object) -> None:
    with pytest.raises(ResultError, match="cannot be kept"):
        encode_result(value, max_bytes=1 << 20)


def test_a_too_large_result_is_refused_with_both_sizes() -> None:
    with pytest.raises(ResultError, match=r"12 bytes.*at most 10"):
        encode_result("x" * 10, max_bytes=10)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_tells_type_message_and_traceback() -> None:
    info = error_info(raised(ValueError("no such file")))
    assert (info.type, info.message) == ("ValueError", "no such file")
    assert info.traceback.startswith("Traceback (most recent call last):")
    assert "raise error" in info.traceback


class Unprintable(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Confused(Exception):
    __notes__ = property(lambda self: 1 / 0)  # type: ignore[assignment]

    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307 - that is the test


def test_an_error_whose_str_fails_still_gives_an_error_info() -> None:
    info = error_info(raised(Unprintable()))
    assert info.message == "<exception str() failed>"
    assert info.type.endswith("test_codec.Unprintable")
    assert error_info(raised(Confused())).message == "<exception str() failed>"


def test_half_surrogates_in_an_error_can_be_written_as_utf8() -> None:
    bad = type("Bad", (Exception,), {"__module__": "m\ud800"})
    info = error_info(raised(bad("a\ud800b")))
    for text in (info.type, info.message, info.traceback):
        text.encode()


def test_a_huge_message_is_capped() -> None:
    info = error_info(raised(ValueError("x" * 5_000_000)))
    assert len(info.message) < 10_000
    assert "more characters" in info.message
    assert len(info.traceback.encode()) <= MAX_TRACEBACK_BYTES


def test_a_huge_traceback_keeps_its_head_and_tail() -> None:
    def raise_from(depth: int) -> None:
        if depth == 0:
            raise ValueError("first cause")
        try:
            raise_from(depth - 1)
        except ValueError as cause:
            raise ValueError(f"é level {depth} " + "y" * 400) from cause

    with pytest.raises(ValueError) as caught:
        raise_from(200)
    text = error_info(caught.value).traceback
    assert len(text.encode()) <= MAX_TRACEBACK_BYTES
    assert "first cause" in text
    assert "level 200" in text[-1000:]
    assert "bytes cut" in text


def test_causes_that_form_a_cycle_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert "second" in error_info(raised(first)).traceback


def test_a_group_of_base_exceptions_is_told_with_its_members() -> None:
    group = BaseExceptionGroup("both", [KeyboardInterrupt("stop"), ValueError("bad")])
    info = error_info(raised(group))
    assert info.type == "BaseExceptionGroup"
    assert "KeyboardInterrupt: stop" in info.traceback
    assert "ValueError: bad" in info.traceback


@given(st.text(alphabet=st.characters(), max_size=50), st.integers(0, 3))
def test_any_text_gives_an_encodable_error_info(text: str, causes: int) -> None:
    error = Exception(text)
    for _ in range(causes):
        outer = Exception(text)
        outer.__context__ = error
        error = outer
    info = error_info(error)
    (info.type + info.message + info.traceback).encode()
