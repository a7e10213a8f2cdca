"""The cron entries of a configuration file: `crons:`, a list of mappings with names, or a mapping by name. Pure.

crons:
  nightly:
    schedule: "0 3 * * *"
    tz: Europe/Berlin
    job: report
    args: {days: 7}
  tidy:
    schedule: "@hourly"
    command: find /tmp/shop -mmin +60 -delete
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mpdispatch.clock import SECOND_US
from mpdispatch.config import read_settings, setting
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.handlers.crons import CronSettings, spec_of
from mpdispatch.handlers.file_crons import FileCron
from mpdispatch.handlers.names import check_job_name
from mpdispatch.host.timezone import host_zone
from mpdispatch.model import COMMAND_JOB, NewJob
from mpdispatch.policy import settings
from mpdispatch.policy.names import shown
from mpdispatch.policy.sources import Settings, Source, section

_OF_THE_JOB = ("queue", "priority", "max_retries", "timeout", "expires")


def _job(value: object, is_text: bool) -> str:
    return check_job_name(value)


def _args(value: object, is_text: bool) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"must be a mapping of arguments, not {shown(value)}")
    return dict(value)


def _command(value: object, is_text: bool) -> tuple[str, ...]:
    """A list, or text that is split as a shell would; no shell reads it."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise UsageError(f"cannot be split into words: {error}") from None
    if not isinstance(value, list | tuple) or not value or not all(isinstance(each, str) for each in value):
        raise UsageError(
            f"must be a program with its arguments, as text or a list of texts, not {shown(value)}"
        )
    if not value[0] or any("\0" in each for each in value):
        raise UsageError(f"must name a program and hold no NUL, not {shown(value)}")
    return tuple(value)


def _cwd(value: object, is_text: bool) -> str:
    path = settings.text(value, is_text)
    if not PurePath(path).is_absolute():
        raise UsageError(f"must be the absolute path of a folder, not {shown(value)}")
    return path


def _env(value: object, is_text: bool) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UsageError(f"must be a mapping of variables, not {shown(value)}")
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise UsageError(f"{shown(name)} is no name of a variable")
        if not isinstance(text, str) or "\0" in text:
            raise UsageError(f"{name} must be text, not {shown(text)}")
    return dict(value)


def _timeout(value: object, is_text: bool) -> float:
    return settings.duration(low=0.000_001)(value, is_text)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCronSettings:
    """What an entry of a file has besides the options of every entry."""

    name: str | None = setting(None, settings.text)
    job: str | None = setting(None, _job)
    args: dict[str, Any] | None = setting(None, _args)  # noqa: RUF009 - a field
    command: tuple[str, ...] | None = setting(None, _command)
    cwd: str | None = setting(None, _cwd)
    env: dict[str, str] | None = setting(None, _env)  # noqa: RUF009 - a field
    queue: str | None = setting(None, settings.name("queue"))
    priority: int | None = setting(None, settings.whole(-(1 << 63), (1 << 63) - 1))
    max_retries: int | None = setting(None, settings.whole(0, 1_000_000))
    timeout: float | None = setting(None, _timeout)
    expires: float | None = setting(None, _timeout)


def read_crons(value: object, is_text: bool) -> tuple[FileCron, ...]:
    """How a file's `crons` is read.

    Raises ConfigError: every fault; its keys are paths below the list or mapping: `[0].schedule`, `.nightly.tz`.
    """
    found: list[FileCron] = []
    faults: list[Fault] = []
    for key, name, item in _items(value, faults):
        try:
            found.append(_read_item(key, name, item))
        except ConfigError as error:
            # The place is before the text already.
            hint = f"did you mean {key}."
            faults += [Fault(each.key, each.message.replace(hint, "did you mean ")) for each in error.faults]
    counted = Counter(each.spec.name for each in found)
    faults += [
        Fault("", f"the entry {name!r} is there twice") for name, count in sorted(counted.items()) if count > 1
    ]
    if faults:
        raise ConfigError(faults)
    return tuple(found)


def _items(value: object, faults: list[Fault]) -> Iterator[tuple[str, str | None, object]]:
    """The place of each item, its name if the place gives it, and the item. Adds the faults of names."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if isinstance(name, str):
                yield f".{name}", name, item
            else:  # in YAML, `5`, `yes` and `null` are no text
                faults.append(
                    Fault(f".{name}", "must be text, as it is the name of an entry: put it in quotes")
                )
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"[{index}]", None, item
    else:
        raise UsageError(
            "must be a mapping such as {nightly: {schedule: '0 3 * * *', job: report}} or a list of mappings with"
            f" names, not {shown(value)}"
        )


def _read_item(key: str, name: str | None, item: object) -> FileCron:
    if not isinstance(item, Mapping):
        raise ConfigError([Fault(key, f"must be a mapping with a schedule and a job, not {shown(item)}")])
    source = section(item, key)
    found = read_settings([source], CronSettings, FileCronSettings)
    _require(found, source, name)
    values = found.values
    job = _job_of(values)
    unknown = "?" if name is None else name  # of which a fault tells already, if there is none
    wanted = values.get("name") if "name" in found.keys else unknown
    spec = spec_of(found, name=wanted, job=job, host_tz=host_zone())
    return FileCron(
        key=key,
        spec=spec,
        given=frozenset(each for each in _OF_THE_JOB if values[each] is not None),
        args=values["args"] or {},
        command=values["command"] or (),
        cwd=values["cwd"],
        env=values["env"] or {},
    )


def _job_of(values: Mapping[str, Any]) -> NewJob:
    """The job of an entry as far as the file describes it. A setting with a fault has no value."""
    is_command = values.get("command") is not None
    return NewJob(
        name=COMMAND_JOB if is_command else values.get("job") or "",
        payload=b"{}",
        # Programs, unlike handlers, are not written to run twice.
        max_retries=_given(values, "max_retries", 0 if is_command else 3),
        queue=_given(values, "queue", "default"),
        priority=_given(values, "priority", 0),
        timeout_us=_us(values.get("timeout")),
        expires_us=_us(values.get("expires")),
    )


_EXCLUDED = {"args": "command", "command": "job", "cwd": "job", "env": "job"}
"""What is not for an entry that has the other one."""


def _require(found: Settings, source: Source, name: str | None) -> None:
    """Add the faults of settings that are missing or exclude each other."""
    given = found.keys
    needed = ["schedule"] if name is not None else ["schedule", "name"]
    missing = [each for each in needed if each not in given]
    found.faults[:] = [each for each in found.faults if each.key != "schedule"]
    if name is not None and found.values.get("name") not in (None, name):
        found.faults.append(Fault(given["name"], f"must be {name!r}, which is its key, or left out"))
    found.faults.extend(Fault(source.key(each), "is required") for each in missing)
    if not given.keys() & {"job", "command"}:
        found.faults.append(Fault(source.key("job"), "is required, or command"))
    _refuse_excluded(found)


def _refuse_excluded(found: Settings) -> None:
    for each, other in _EXCLUDED.items():
        if each in found.keys and other in found.keys:
            found.faults.append(Fault(found.keys[each], f"is not for an entry with a {other}"))


def _given(values: Mapping[str, Any], name: str, default: Any) -> Any:
    value = values.get(name)
    return default if value is None else value


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND_US)
