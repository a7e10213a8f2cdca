"""Errors that are alike have one pattern; those that are not have several."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.policy.alike import MOST_CHARS, pattern_of

UUIDS = st.uuids().map(str)
NUMBERS = st.integers(0, 10**12).map(str) | st.floats(0, 1e6, allow_nan=False).map("{:.3f}".format)
HASHES = st.binary(min_size=8, max_size=20).map(bytes.hex).filter(lambda text: any(c.isalpha() for c in text))
WORDS = st.text("abcdefghijklmnopqrstuvwxyz-_", min_size=1, max_size=8)
PATHS = st.lists(WORDS, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(st.data())
@pytest.mark.parametrize(
    ("values", "text"),
    [
        (NUMBERS, "no such page: {}"),
        (NUMBERS, "user_{} is gone"),
        (NUMBERS, "took {} s (of {})"),
        (UUIDS, "order {} is unknown"),
        (HASHES, "no object {} in the bucket"),
        (st.integers(0, 2**64).map(hex), "<Page object at {}> is closed"),
        (PATHS, "cannot read {}: it is empty"),
        (PATHS, "cannot read '{}'"),
        (PATHS, "GET https://example.org{} was refused"),
        (PATHS, "[Errno 2] No such file or directory: '{}'"),
        (WORDS, "[Errno 2] No such file or directory: '{}.png'"),
        (st.datetimes().map(lambda each: each.isoformat() + "Z"), "nothing before {}"),
        (WORDS, "no account for {}@example.org"),
    ],
)
def test_messages_that_differ_in_such_a_value_are_alike(
    values: st.SearchStrategy[str], text: str, data: st.DataObject
) -> None:
    count = text.count("{}")
    first, second = ([data.draw(values) for _ in range(count)] for _ in range(2))
    assert pattern_of(text.format(*first)) == pattern_of(text.format(*second))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP 404", "HTTP 503"),
        ("server said: status=404", "server said: status=503"),
        ("sh: exit status 1", "sh: exit status 2"),
        ("[Errno 2] No such file or directory: 'a'", "[Errno 13] No such file or directory: 'a'"),
        ("no such page", "no such book"),
        ("'name'", "'email'"),
        ("mail.example.org refused", "mail.example.com refused"),
        ("killed by SIGKILL", "killed by SIGSEGV"),
    ],
)
def test_what_says_why_is_kept(one: str, other: str) -> None:
    assert pattern_of(one) != pattern_of(other)


@given(
    st.text()
    | st.lists(WORDS | NUMBERS | PATHS | UUIDS | st.sampled_from(" :/'\"<>.@"), max_size=30).map("".join)
)
def test_a_pattern_is_one_short_line_and_alike_to_itself(message: str) -> None:
    pattern = pattern_of(message)
    assert len(pattern) <= MOST_CHARS
    assert "\n" not in pattern
    assert pattern_of(pattern) == pattern


@pytest.mark.parametrize("part", ["a.", "/", "a@", "'", "0a", "1:", "http://", "status ", "-", "<"])
def test_a_message_of_megabytes_takes_no_time(part: str) -> None:
    began_s = time.process_time()
    pattern_of(part * 1_000_000)
    assert time.process_time() - began_s < 0.25
