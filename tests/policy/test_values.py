"""Names, durations and the readers of settings."""

import contextlib
import math
import sys
import time
import unicodedata
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.errors import UsageError
from mpdispatch.policy import settings
from mpdispatch.policy.durations import MAX_DURATION_S, parse_duration
from mpdispatch.policy.names import check_name, shown


@pytest.mark.parametrize(
    "name", ["default", "shop.resize", "Größe 2", "a" * 200, "x'; DROP TABLE jobs --", "\u202ex"]
)
def test_an_ordinary_name_is_kept_as_it_is(name):
    assert check_name("job name", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "a" * 201,
        "a\0b",
        "a\nb",
        "a\x1b[31m",
        "a\x7f",
        "\x85",
        "\u2028",
        "\ud800",
        "../up",
        "a..b",
        5,
        None,
        b"a",
    ],
)
def test_a_name_that_would_break_a_log_a_row_or_a_path_is_refused(name):
    with pytest.raises(UsageError, match=r"^job name must "):
        check_name("job name", name)


def test_what_no_name_may_hold_is_as_unicode_says():
    def is_refused(char):
        with contextlib.suppress(UsageError):
            return not check_name("queue name", f"a{char}b")
        return True

    for char in map(chr, range(sys.maxunicode + 1)):
        assert is_refused(char) is (unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}), hex(ord(char))


@given(st.text(max_size=300))
def test_an_accepted_name_can_be_stored_and_stands_on_one_line(name):
    try:
        check_name("queue name", name)
    except UsageError:
        return
    assert 1 <= len(name.encode().decode()) <= 200
    assert len(name.splitlines()) == 1


@pytest.mark.parametrize(
    "value", ["x" * 10**6, b"x" * 10**6, [0] * 1000, pytest.param(10**5000, id="10**5000")]
)
def test_a_huge_bad_value_is_shown_short(value):
    assert len(shown(value)) <= 60


def test_a_value_that_holds_a_billion_others_is_shown_at_once():
    bomb = ["lol"] * 9
    for _ in range(9):
        bomb = [bomb] * 9
    began = time.process_time()
    for value in (bomb, {"a": bomb}, (bomb,), [[1], bomb], {"a" * 60: bomb}, {"a": 1, "b" * 10**8: 1}):
        assert shown(value)[-1] == "…"
    assert time.process_time() - began < 1
    bomb[0] = bomb
    assert shown(bomb) == "[" * 59 + "…"


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("abc", max_size=9)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text("ab", max_size=3), inner)
    ),
)


@given(PLAIN, st.integers(2, 80))
def test_a_value_is_shown_as_its_repr_as_far_as_it_goes(value, limit):
    text = repr(value)
    assert shown(value, limit) == (text if len(text) <= limit else text[: limit - 1] + "…")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("250ms", 0.25),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (" 2.5 ", 2.5),
        ("10", 10),
        (".5", 0.5),
        (3, 3),
        (0, 0),
        (0.25, 0.25),
        (timedelta(minutes=1), 60),
    ],
)
def test_durations_are_read_in_every_form_people_write(value, seconds):
    assert parse_duration(value) == seconds
    assert isinstance(parse_duration(value), float)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "5x",
        "-5s",
        "5 s",
        "1e3",
        "nan",
        "inf",
        "١s",
        "30s!",
        "1" * 400,
        "9" * 400 + "h",
        -1,
        math.nan,
        math.inf,
        True,
        None,
        [],
        10**400,
        MAX_DURATION_S + 1,
        timedelta(seconds=-1),
    ],
)
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(UsageError, match=r"^must be "):
        parse_duration(value)


@given(st.floats(0, MAX_DURATION_S))
def test_seconds_written_as_text_come_back(seconds):
    text = f"{seconds:.3f}"
    assert parse_duration(text) == parse_duration(text + "s") == float(text)


@given(st.text())
def test_any_text_is_a_duration_or_a_usage_error(text):
    with contextlib.suppress(UsageError):
        assert 0 <= parse_duration(text) <= MAX_DURATION_S


@pytest.mark.parametrize(("value", "is_text"), [(5, False), ("5", True), (5, True)])
def test_a_whole_number_is_read_from_text_only_where_all_is_text(value, is_text):
    assert settings.whole(1, 9)(value, is_text) == 5


@pytest.mark.parametrize(
    ("value", "is_text"),
    [
        ("5", False),
        (True, False),
        (5.0, False),
        (None, False),
        (0, False),
        (10, False),
        ("x", True),
        ("²", True),
        ("", True),
        ("-5", True),
        ("1" * 5000, True),
        ("auto", True),
    ],
)
def test_what_is_no_whole_number_in_range_is_refused(value, is_text):
    with pytest.raises(UsageError, match=r"^must be a whole number from 1 to 9, not "):
        settings.whole(1, 9)(value, is_text)


def test_a_list_of_names_reports_every_fault_in_it():
    with pytest.raises(UsageError) as caught:
        settings.names("queue name")(["a", "a", "", 5], False)
    assert (
        str(caught.value)
        == "queue name must not be empty; queue name must be text, not 5; queue name 'a' stands there twice"
    )


def test_a_bare_string_is_no_list_of_names():
    with pytest.raises(UsageError, match=r"^must be a list of at least one queue name, not 'default'$"):
        settings.names("queue name")("default", False)
