"""NumPy's scalars and arrays are kept as what they hold, or refused with the way to convert them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes

from mpdispatch import Engine
from mpdispatch.errors import PayloadError, ResultError
from mpdispatch.execution.codec import encode_result
from mpdispatch.handlers.signature import Signature
from tests.conftest import ROOT

MAX = 1 << 20


@dataclass
class Stats:
    mean: float
    count: int
    bins: list[int]


def result(value: Any, max_bytes: int = MAX) -> Any:
    return json.loads(encode_result(value, max_bytes=max_bytes))


def passed(function: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What a handler gets that is called so."""
    signature = Signature("job", function)
    return signature.decode(signature.encode(args, kwargs, max_bytes=MAX))


SCALARS = [
    (np.int64(-3), -3),
    (np.uint8(200), 200),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.float16(0.5), 0.5),
    (np.float32(0.1), float(np.float32(0.1))),
    (np.float64(1e300), 1e300),
    (np.bool_(True), True),
    (np.str_("é"), "é"),
    (np.array(7), 7),
    (np.array([[1, 2], [3, 4]], dtype="i2"), [[1, 2], [3, 4]]),
    (np.array([]), []),
    (np.zeros((2, 0)), [[], []]),
    (np.array([0.5, 1.5], dtype="f4"), [0.5, 1.5]),
    (np.array([True, False]), [True, False]),
    (np.array(["a", "bc"]), ["a", "bc"]),
    (np.arange(6).reshape(2, 3).T[::-1], [[2, 5], [1, 4], [0, 3]]),
    (np.arange(300).reshape(300, 1), [[n] for n in range(300)]),
]


@pytest.mark.parametrize(("value", "kept"), SCALARS, ids=lambda each: repr(each)[:30])
def test_a_scalar_or_array_is_kept_as_what_it_holds(value: Any, kept: Any) -> None:
    def untyped(x: Any, y: dict) -> None: ...  # type: ignore[type-arg]

    for found in (
        result(value),
        result({"deep": [value, (value,)]})["deep"][0],
        passed(untyped, value, {})["x"],
        passed(untyped, 0, {"deep": [value]})["y"]["deep"][0],
    ):
        assert found == kept
        assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.datetime64("2026-03-01"), "2026-03-01"),
        (np.datetime64("2026-03-01T12:00:00"), "2026-03-01T12:00:00"),
        (np.array(["2026-03-01T00:00:00.000000001"], dtype="M8[ns]"), ["2026-03-01T00:00:00.000000001"]),
        (np.timedelta64(90, "s"), "PT90S"),
        (np.array([90_000_000_000], dtype="m8[ns]"), ["PT90S"]),
        (np.bytes_(b"a"), "YQ=="),
        (Stats(np.float32(0.5), np.int64(3), np.array([1, 2])), {"mean": 0.5, "count": 3, "bins": [1, 2]}),
        ({np.int64(3), 3}, [3]),
        ({np.str_("k"): np.int8(1)}, {"k": 1}),
    ],
    ids=repr,
)
def test_results_of_other_kinds_are_kept_as_the_readme_says(value: Any, kept: Any) -> None:
    assert result(value) == kept


def test_a_typed_parameter_takes_what_numpy_has_of_its_type() -> None:
    def typed(
        n: int,
        x: float,
        flag: bool,
        name: str,
        points: list[tuple[float, float]],
        day: date,
        at: datetime,
        pause: timedelta,
        raw: bytes,
        seen: set[int],
        stats: Stats,
        by: dict[int, float],
    ) -> None: ...

    given = {
        "n": np.int32(5),
        "x": np.float32(0.1),
        "flag": np.True_,
        "name": np.str_("a"),
        "points": np.array([[0.5, 1], [2, 3]]),
        "day": np.datetime64("2026-03-01"),
        "at": np.datetime64("2026-03-01T12:00:00"),
        "pause": np.timedelta64(90, "s"),
        "raw": np.bytes_(b"a"),
        "seen": np.array([3, 3, 4]),
        "stats": Stats(np.float64(0.5), np.int64(3), np.array([1, 2])),
        "by": {np.int64(3): np.float64(0.5)},
    }
    got = passed(typed, **given)
    assert got == {
        "n": 5,
        "x": float(np.float32(0.1)),
        "flag": True,
        "name": "a",
        "points": [(0.5, 1.0), (2.0, 3.0)],
        "day": date(2026, 3, 1),
        "at": datetime(2026, 3, 1, 12),
        "pause": timedelta(seconds=90),
        "raw": b"a",
        "seen": {3, 4},
        "stats": Stats(0.5, 3, [1, 2]),
        "by": {3: 0.5},
    }
    assert {type(value).__module__ for value in got.values()} == {"builtins", "datetime", __name__}


@given(
    shapes.arrays(
        st.sampled_from(["i1", "u8", "i8", "f4", "f8", "?", "U3"]),
        shapes.array_shapes(min_dims=0, max_dims=3, max_side=4, min_side=0),
    )
)
def test_any_array_comes_back_as_its_list_or_is_refused_for_what_it_holds(array: Any) -> None:
    whole = array.tolist()
    try:
        found = result(array)
    except ResultError as error:
        text = str(error)
        assert "surrogate" in text or "nan cannot" in text or "inf cannot" in text
        return
    assert found == whole


REFUSED = [
    (np.float64("nan"), "nan cannot be written as JSON; use None or text for it"),
    (np.array([1, np.inf]), r"\[1\]: inf cannot be written as JSON; use None or text for it"),
    (np.array([None, {}]), r"use \.tolist\(\)"),
    (np.complex64(1j), r"use \.real and \.imag"),
    (np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]), r"a\.dtype\.names"),
    (np.longdouble(1) / 3, r"use \.astype\(float\)"),
    (np.ma.masked_array([1, 2], [0, 1]), r"use \.filled\(\.\.\.\)"),
    (np.datetime64("NaT", "s"), "NaT"),
    (np.array(["NaT", 5], dtype="m8[s]"), "NaT"),
    (np.timedelta64(5, "ns"), r"use \.astype\('timedelta64\[us\]'\)"),
    (np.timedelta64(5, "Y"), r"use \.astype\('timedelta64\[D\]'\)"),
    (np.array(["\ud800"]), "surrogate"),
]


@pytest.mark.parametrize(("value", "said"), REFUSED, ids=lambda each: repr(each)[:40])
def test_what_json_cannot_hold_is_refused_with_the_way_to_convert_it(value: Any, said: str) -> None:
    def untyped(x: Any) -> None: ...

    def typed(x: list[float] | None) -> None: ...

    for wrapped, place in ((value, "result"), ([{"deep": value}], r"result\[0\]\.deep")):
        with pytest.raises(ResultError, match=rf"the result cannot be kept: {place}\b.*{said}") as raised:
            result(wrapped)
        assert len(str(raised.value)) < 400
    for function in (untyped, typed):
        with pytest.raises(PayloadError, match=said) as refused:
            passed(function, value)
        assert refused.value.faults[0].key.startswith("x")


def test_times_and_bytes_of_numpy_need_an_annotation_as_others_do() -> None:
    def untyped(x: Any) -> None: ...

    for value in (np.datetime64("2026-03-01"), np.timedelta64(1, "s"), np.array([b"a"])):
        with pytest.raises(PayloadError, match="is only rebuilt for an annotated parameter"):
            passed(untyped, value)


def test_a_wrong_type_is_named_beside_arrays_that_fit() -> None:
    def typed(n: int, name: str, xs: list[int]) -> None: ...

    with pytest.raises(PayloadError) as refused:
        passed(typed, np.int64(1), np.int64(2), np.array([0.5]))
    assert sorted(fault.key for fault in refused.value.faults) == ["name", "xs[0]"]


def test_an_array_past_the_limit_is_refused_before_it_is_unfolded() -> None:
    huge = np.broadcast_to(np.int64(1), (1 << 40,))  # as a list: 8 TiB
    began = time.process_time()
    with pytest.raises(
        ResultError, match=r"1,099,511,627,776 values is more than 1,048,576 bytes.*numpy\.save"
    ):
        result({"deep": huge})
    signature = Signature("job", lambda x: None)
    with pytest.raises(PayloadError, match="more than 1,048,576 bytes"):
        signature.encode((huge,), {}, max_bytes=MAX)
    assert time.process_time() - began < 2
    many = np.arange(400_000)
    with pytest.raises(ResultError, match="max_result_bytes"):
        result(many)
    assert len(result(many, max_bytes=4 * MAX)) == 400_000
    with pytest.raises(PayloadError, match="max_payload_bytes"):
        signature.encode((many,), {}, max_bytes=MAX)
    assert len(signature.encode((many,), {}, max_bytes=4 * MAX)) > 2 * MAX


ONE = "an array of {} is more than 1,048,576 bytes"
ALL = "arrays together are more than 1,048,576 bytes"
WIDE = np.dtypes.StringDType() if hasattr(np.dtypes, "StringDType") else "U9"
TOO_MUCH = [
    (lambda: np.zeros((10**6, 0)), ONE.format(r"shape \(1000000, 0\)")),
    (lambda: np.zeros((3, 10**5, 2, 0)), ONE.format(r"shape \(3, 100000, 2, 0\)")),
    (lambda: np.broadcast_to(np.str_("x" * 1000), (200_000,)), ONE.format("200,000 values")),
    (lambda: np.broadcast_to(np.str_("x" * 1000), (20, 100, 100)), ONE.format("200,000 values")),
    (lambda: np.broadcast_to(np.bytes_(b"x" * 1000), (200_000,)), ONE.format("200,000 values")),
    (lambda: np.broadcast_to(np.array("x" * 1000, dtype=WIDE), (200_000,)), ONE.format("200,000 values")),
    (lambda: np.broadcast_to(np.datetime64("2026-03-01T12:00:00"), (140_000,)), ONE.format("140,000 values")),
    (lambda: [np.zeros(100_000)] * 200, ALL),
    (lambda: {"deep": [{"a": np.zeros((1000, 0))}] * 2000}, ALL),
    (lambda: [np.full(300, "x" * 100)] * 2000, ALL),
]


@pytest.mark.parametrize(("make", "said"), TOO_MUCH, ids=[str(n) for n in range(len(TOO_MUCH))])
def test_arrays_that_are_too_large_are_refused_before_they_are_made_lists(make: Any, said: str) -> None:
    def untyped(x: Any) -> None: ...

    def typed(x: list[Any]) -> None: ...

    value = make()
    for refuse in (
        lambda: result(value),
        lambda: Signature("job", untyped).encode((value,), {}, max_bytes=MAX),
        lambda: Signature("job", typed).encode((value,), {}, max_bytes=MAX),
    ):
        tracemalloc.start()
        try:
            with pytest.raises((ResultError, PayloadError), match=rf"(result|x)\b.*: .*{said}.*numpy\.save"):
                refuse()
            assert tracemalloc.get_traced_memory()[1] < 10 * MAX
        finally:
            tracemalloc.stop()


def test_the_largest_array_there_could_be_is_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(ResultError, match="more than 1,048,576 bytes"):
        result(np.broadcast_to(np.float64(0), (1 << 40, 0)))
    assert time.process_time() - began < 2


def test_arrays_that_fit_together_are_kept_however_often_they_are_looked_at() -> None:
    def untyped(x: Any, y: Any) -> None: ...

    def typed(x: list[list[float]], y: Stats) -> None: ...

    rows = [np.full(50_000, 0.5)] * 2
    stats = Stats(np.float64(0.5), np.int64(3), np.full(150_000, 7))
    assert result([rows, stats]) == [
        [row.tolist() for row in rows],
        {"mean": 0.5, "count": 3, "bins": [7] * 150_000},
    ]
    assert passed(untyped, rows, np.full(150_000, 7)) == {
        "x": [row.tolist() for row in rows],
        "y": [7] * 150_000,
    }
    assert passed(typed, rows, stats)["y"].bins == [7] * 150_000
    with pytest.raises(PayloadError, match=r"y\.mean: nan cannot be written"):
        passed(untyped, rows, {"mean": float("nan"), "bins": np.full(150_000, 7)})


def test_arguments_are_too_large_together_though_each_is_not() -> None:
    half = np.full(150_000, 0.5)
    for kwargs in ({"x": half, "y": half}, {"x": half, "y": half, "z": 1}):
        with pytest.raises(PayloadError, match=ALL if "z" not in kwargs else "z: is no argument"):
            Signature("job", lambda x, y: None).encode((), kwargs, max_bytes=MAX)


def test_text_is_counted_as_long_as_it_is_and_not_as_its_array_is_wide() -> None:
    wide = np.array([["a", "é"]] * 5000, dtype="U1000")
    assert result(wide) == [["a", "é"]] * 5000
    assert result(wide.T[::-1]) == [["é"] * 5000, ["a"] * 5000]
    assert result(wide.view(np.matrix)) == [["a", "é"]] * 5000
    assert (
        result(np.array(["2026-03-01"] * 9000, dtype="M8[D]").reshape(3, 3000)) == [["2026-03-01"] * 3000] * 3
    )
    assert result(np.zeros((2, 0, 3), dtype="U5")) == [[], []]
    assert result(np.array("x" * 50_000)) == "x" * 50_000


class DataFrame:
    columns = ()

    def to_dict(self, orient: str = "dict") -> dict[str, Any]:
        return {}


class Tensor:
    def tolist(self) -> list[int]:
        return []


@pytest.mark.parametrize(
    ("value", "said"),
    [(DataFrame(), r"DataFrame cannot .*; use \.to_dict\('list'\)"), (Tensor(), r"use \.tolist\(\)")],
)
def test_things_like_arrays_are_refused_with_the_way_to_convert_them(value: Any, said: str) -> None:
    with pytest.raises(ResultError, match=said):
        result(value)
    with pytest.raises(PayloadError, match=said):
        passed(lambda x: None, value)


def test_nothing_of_ours_imports_numpy() -> None:
    code = (
        "import sys; from mpdispatch.execution.codec import encode_result as e; from mpdispatch.execution import executor;"
        "from mpdispatch.handlers.signature import Signature; e({'a': [1, None]}, max_bytes=99);"
        "Signature('job', lambda x: 0).encode(({'a': [1.5, None]},), {}, max_bytes=99); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


APP = """
import numpy as np
from mpdispatch import Engine, current_job

engine = Engine.open("jobs.db", concurrency=1)

@engine.job(max_retries=0)
def measure(values: list[float], scale: int) -> dict:
    current_job().progress(np.int64(1), total=np.float64(2))
    array = np.asarray(values, dtype="f4") * scale
    return {"type": type(scale).__name__, "mean": array.mean(), "max": array.argmax(), "all": array}

if __name__ == "__main__":
    measure.enqueue(np.array([1, 2, 4.5]), scale=np.int64(2))
    measure.enqueue_many([{"values": np.ones(2), "scale": np.int8(n)} for n in (1, 2)])
    engine.dispatcher.run(drain=True)
"""


def test_a_job_takes_and_gives_arrays(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(APP)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    engine = Engine.open(tmp_path / "jobs.db")
    first, second, third = (engine.get_job(n) for n in (1, 2, 3))
    assert first.payload == {"values": [1.0, 2.0, 4.5], "scale": 2}
    assert first.result == {"type": "int", "mean": 5.0, "max": 2, "all": [2.0, 4.0, 9.0]}
    assert first.progress == {"done": 1, "total": 2.0, "message": None}
    assert [job.result["all"] for job in (second, third)] == [[1.0, 1.0], [2.0, 2.0]]
