"""How each kind of setting is read: a given value in, the kept value or a UsageError out. Pure.

A reader is called as `read(value, is_text)`. `is_text` is true for a value from the environment, where every
value is text. Elsewhere a number must be a number, and `True` is not one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from mpdispatch.errors import UsageError
from mpdispatch.policy.durations import as_seconds, parse_duration
from mpdispatch.policy.names import check_name, shown

_PROBLEMS_SHOWN = 20

Reader: TypeAlias = Callable[[object, bool], Any]


def whole(low: int, high: int, *, words: Iterable[str] = ()) -> Reader:
    """A whole number from `low` to `high`, or one of `words`.

    >>> whole(1, 64)("8", True)
    8
    """
    others = tuple(words)
    allowed = " or ".join([f"a whole number from {low} to {high}", *map(repr, others)])

    def read(value: object, is_text: bool) -> int | str:
        if isinstance(value, str) and value in others:
            return value
        if is_text and isinstance(value, str):
            digits = value.removeprefix("-")
            # Fewer than 20 digits: int() of very long text is slow.
            value = int(value) if digits.isascii() and digits.isdigit() and len(digits) < 20 else value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UsageError(f"must be {allowed}, not {shown(value)}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """A number from `low` to `high`, as a float."""

    def read(value: object, is_text: bool) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UsageError(f"must be a number from {low:.15g} to {high:.15g}, not {shown(value)}")
        return float(value)

    return read


def duration(*, low: float = 0.0) -> Reader:
    """Float seconds: a number, a timedelta or text such as `30s`; at least `low`."""

    def read(value: object, is_text: bool) -> float:
        seconds = parse_duration(value)
        if seconds < low:
            raise UsageError(f"must be at least {low:g} s, not {shown(value)}")
        return as_seconds(seconds)

    return read


def choice(*words: str) -> Reader:
    """One of a few words."""

    def read(value: object, is_text: bool) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise UsageError(f"must be {' or '.join(map(repr, words))}, not {shown(value)}")

    return read


def switch(value: object, is_text: bool) -> bool:
    """True or false; in the environment also 1 and 0, yes and no, on and off.

    >>> switch("off", True)
    False
    """
    if isinstance(value, bool):
        return value
    if is_text and isinstance(value, str) and value.lower() in _SWITCHES:
        return _SWITCHES[value.lower()]
    raise UsageError(f"must be true or false, not {shown(value)}")


_SWITCHES = dict.fromkeys(("true", "1", "yes", "on"), True)
_SWITCHES |= dict.fromkeys(("false", "0", "no", "off"), False)


def text(value: object, is_text: bool) -> str:
    if not isinstance(value, str):
        raise UsageError(f"must be text, not {shown(value)}")
    return value


def optional(read: Reader) -> Reader:
    """What `read` takes, or None (`none` in the environment)."""

    def read_optional(value: object, is_text: bool) -> Any:
        if value is None or (is_text and value == "none"):
            return None
        return read(value, is_text)

    return read_optional


def name(kind: str) -> Reader:
    """A name, see `check_name`."""
    return lambda value, is_text: check_name(kind, value)


def names(kind: str) -> Reader:
    """A tuple of different names, at least one; in the environment separated by commas."""

    def read(value: object, is_text: bool) -> tuple[str, ...]:
        if is_text and isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        # A bare string would be taken for a list of one-letter names.
        if not isinstance(value, list | tuple | set | frozenset) or not value:
            raise UsageError(f"must be a list of at least one {kind}, not {shown(value)}")
        found = tuple(sorted(value, key=str) if isinstance(value, set | frozenset) else value)
        problems = [problem for item in found if (problem := _problem(kind, item))]
        problems += [f"{kind} {shown(item)} stands there twice" for item in _repeated(found)]
        if problems:
            more = [f"and {len(problems) - _PROBLEMS_SHOWN:,} more"] if len(problems) > _PROBLEMS_SHOWN else []
            raise UsageError("; ".join(problems[:_PROBLEMS_SHOWN] + more))
        return found

    return read


def _problem(kind: str, item: object) -> str | None:
    try:
        check_name(kind, item)
    except UsageError as error:
        return str(error)
    return None


def _repeated(items: tuple[object, ...]) -> list[str]:
    counted = Counter(item for item in items if isinstance(item, str))
    return sorted(text for text, count in counted.items() if count > 1)
