"""Which columns fit on a terminal, and the arguments that stand in one."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.cli.columns import GAP, Column, fit
from mpdispatch.cli.job_texts import arguments_text, brief, pairs_text
from mpdispatch.cli.values import arguments_of
from mpdispatch.model import COMMAND_JOB, ErrorInfo, Job, JobState

COLUMNS = st.lists(
    st.tuples(
        st.builds(
            Column,
            name=st.just("x"),
            least=st.none() | st.integers(4, 30),
            rank=st.integers(0, 3),
        ),
        st.integers(1, 200),
    ),
    min_size=1,
    max_size=8,
)


@given(COLUMNS, st.integers(10, 400))
def test_columns_fit_or_all_that_may_be_left_out_is_left_out(each: list[tuple[Column, int]], room: int) -> None:
    columns, widths = [column for column, _ in each], [width for _, width in each]
    shown = fit(columns, widths, room)
    used = sum(width for _, width in shown) + GAP * (len(shown) - 1)
    kept = {at for at, _ in shown}
    assert [at for at, _ in shown] == sorted(kept)
    assert all(1 <= width <= widths[at] for at, width in shown)
    assert all(width == widths[at] for at, width in shown if columns[at].least is None)
    if sum(widths) + GAP * (len(widths) - 1) <= room:
        assert shown == list(enumerate(widths))
        return
    left_out = [columns[at].rank for at in range(len(columns)) if at not in kept]
    assert 0 not in left_out
    if left_out:
        assert min(left_out) >= max((columns[at].rank for at in kept), default=0)
    if used > room:
        assert not any(columns[at].rank for at in kept)
        assert all(width <= 4 for at, width in shown if columns[at].least is not None)
    elif any(width < widths[at] for at, width in shown):
        assert used == room, "no character is wasted"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text("abcä_=: '", min_size=1) | st.text(min_size=1), VALUES))
def test_arguments_are_shown_as_the_command_line_takes_them(payload: dict[str, object]) -> None:
    words = shlex.split(pairs_text(payload))
    whole = words[1] if words[:1] == ["--args"] else None
    assert arguments_of([] if whole is not None else words, whole) == payload


def test_the_arguments_of_a_program_are_quoted_for_a_shell() -> None:
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    job = Job(
        id=1,
        name=COMMAND_JOB,
        queue="q",
        state=JobState.PENDING,
        priority=0,
        payload={"argv": ["convert", "a b.jpg"], "cwd": "/", "env": {"TOKEN": "secret"}},
        max_retries=0,
        run_at=moment,
        created_at=moment,
    )
    assert arguments_text(job) == "convert 'a b.jpg'"


def test_an_error_in_a_column_has_its_class_and_what_it_says() -> None:
    assert brief(ErrorInfo(type="shop.errors.Broken", message="in two")) == "Broken: in two"
    assert brief(ErrorInfo(type="MemoryError", message="")) == "MemoryError"
    assert brief(None) == ""
