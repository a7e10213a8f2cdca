"""Types of values on the command line. A bad value is a usage error that names the option."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from mpdispatch.engine.options import expires_from_text
from mpdispatch.errors import UsageError
from mpdispatch.model.json import json_from_text, time_from_text
from mpdispatch.policy.durations import parse_duration
from mpdispatch.policy.names import shown

T = TypeVar("T")

_MOST_ID = (1 << 63) - 1


class _Type(click.ParamType[T]):
    """The values that a function makes of texts; what it refuses with a UsageError is refused."""

    def __init__(self, name: str, read: Callable[[Any], T]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        try:
            return self._read(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def _age(value: Any) -> float:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9.]+\s*", value):
        number = value.strip()
        raise UsageError(f"{number} of what? write {number}d, {number}h, m or s")
    return parse_duration(value)


def _job_ids(value: Any) -> list[int]:
    if not isinstance(value, str):
        return [*value]
    texts = [text.strip() for text in value.split(",")]
    for text in texts:
        if not (text.isascii() and text.isdecimal() and 0 < int(text[:20]) <= _MOST_ID):
            raise UsageError(f"{shown(text)} is no id of a job; write 12 or 12,13,14")
    return [int(text) for text in texts]


def _concurrency(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    if not re.fullmatch("[0-9]{1,6}", str(value)) or int(value) < 1:
        raise UsageError(f"{shown(value)} is neither a number from 1 nor 'auto'")
    return int(value)


DURATION = _Type("duration", parse_duration)
"""`30s`, `5m`, `1h30m`, `250ms` or plain seconds, as float seconds."""
AGE = _Type("age", _age)
"""As `DURATION`, but the unit is required, because a mistake would delete jobs."""
RFC3339 = _Type("time", time_from_text)
"""A time with its offset, as an aware datetime in UTC."""
EXPIRES = _Type("duration|time", expires_from_text)
"""As `DURATION` or `RFC3339`."""
CONCURRENCY = _Type("n|auto", _concurrency)
"""A number of worker processes, or `auto`."""
JOB_IDS = _Type("id[,id...]", _job_ids)
"""Ids of jobs."""
JOB_ID = click.IntRange(min=1)
JOB_ID.name = "job id"
BATCH_ID = click.IntRange(min=1)
BATCH_ID.name = "batch id"


def arguments_of(pairs: Sequence[str], whole: str | None) -> dict[str, Any]:
    """The arguments of a job from `--args` and from `k=v` (text) and `k:=v` (JSON) pairs, which override it.

    >>> arguments_of(["path=a.pdf", "dpi:=300"], '{"dpi": 72, "gray": true}')
    {'dpi': 300, 'gray': True, 'path': 'a.pdf'}
    """
    arguments: dict[str, Any] = {}
    if whole is not None:
        arguments = _json(whole, "--args")
        if not isinstance(arguments, dict):
            raise click.UsageError("--args must be a JSON object, such as '{\"dpi\": 300}'")
    return arguments | arguments_of_pairs(pairs)


def arguments_of_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """The arguments from `k=v` (text) and `k:=v` (JSON) pairs alone."""
    arguments: dict[str, Any] = {}
    given = set[str]()
    for pair in pairs:
        key, sign, text = pair.partition("=")
        is_json = key.endswith(":")
        key = key.removesuffix(":")
        if not sign or not key:
            raise click.UsageError(f"{shown(pair)} is no argument; write name=text or name:=JSON")
        if key in given:
            raise click.UsageError(f"the argument {shown(key)} is given twice")
        given.add(key)
        arguments[key] = _json(text, key) if is_json else text
    return arguments


def _json(text: str, where: str) -> Any:
    try:
        return json_from_text(text)
    except UsageError as error:
        hint = "" if where == "--args" else f"; text is given as {where}=..."
        raise click.UsageError(f"{where}: {error}{hint}") from error
