"""Types of values on the command line. A bad value is a usage error that names the option."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from mpdispatch.errors import UsageError
from mpdispatch.model.json import json_from_text, time_from_text
from mpdispatch.policy.durations import parse_duration
from mpdispatch.policy.names import shown


class _Duration(click.ParamType[float]):
    """`30s`, `5m`, `1h30m`, `250ms` or plain seconds, as float seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class _Age(_Duration):
    """As `_Duration`, but the unit is required, because a mistake would delete jobs."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9.]+\s*", value):
            self.fail(f"{value.strip()} of what? write {value.strip()}d, {value.strip()}h, m or s", param, ctx)
        return super().convert(value, param, ctx)


class _Rfc3339(click.ParamType[datetime]):
    """A time with its offset, as an aware datetime in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return time_from_text(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class _Concurrency(click.ParamType[int | str]):
    """A number of worker processes, or `auto`."""

    name = "n|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "auto":
            return "auto"
        if not re.fullmatch("[0-9]{1,6}", str(value)) or int(value) < 1:
            self.fail(f"{shown(value)} is neither a number from 1 nor 'auto'", param, ctx)
        return int(value)


class _JobId(click.IntRange):
    """The number of a job."""

    name = "job id"


JOB_ID = _JobId(min=1)
DURATION, RFC3339, CONCURRENCY = _Duration(), _Rfc3339(), _Concurrency()
AGE = _Age()


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
