"""Settings merged from several sources, with every fault of all of them. Pure: no I/O.

sources, strongest first ──▶ collect(readers) ──▶ values, where each came from, faults
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.policy.names import cut, nearest
from mpdispatch.policy.settings import Reader

DEFAULT_ORIGIN = "default"

_UNKNOWN_SHOWN = 50
"""At most this many unknown settings of a source are reported."""

_NEAR = 0.8
"""An unknown variable at least this similar to one of ours is taken for a misspelt one: QUEUE is, CONFIG is not."""


class Source(NamedTuple):  # no dataclass: half a millisecond for every command
    """Values by setting. `key` gives the name of a setting in this source, so that people find a fault."""

    values: Mapping[str, object]
    key: Callable[[str], str]
    origin: Callable[[str], str]
    is_text: bool = False


def arguments(values: Mapping[str, object]) -> Source:
    """Keywords of a call."""
    return Source(values=values, key=str, origin=lambda _: "argument")


def section(values: Mapping[str, object], prefix: str) -> Source:
    """A section of a config file; its keys are shown as `prefix.key`."""

    def key(name: str) -> str:
        return f"{prefix}.{name}"

    # A key of YAML may be no text (1, true, null). Such a key is an unknown setting, not a crash.
    return Source(values={str(name): value for name, value in values.items()}, key=key, origin=key)


def environment(env: Mapping[str, str], prefix: str, known: Iterable[str]) -> Source:
    """The variables `PREFIX<SETTING>`. Empty ones count as not set; other variables with the prefix are ignored.

    A variable whose name is nearly that of a setting is kept, so that it is reported as misspelt.
    """

    def key(name: str) -> str:
        return prefix + name.upper()

    settings = frozenset(known)
    values: dict[str, object] = {}
    for variable, text in env.items():
        name = variable.removeprefix(prefix).lower()
        if not variable.startswith(prefix) or variable != key(name) or not text.strip():
            continue
        if name in settings or nearest(name, settings, cutoff=_NEAR):
            values[name] = text.strip()
    return Source(values=values, key=key, origin=key, is_text=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `collect` found. A setting with a fault in its strongest source has no value."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """For each setting that a source gives: its key in the strongest such source."""
    faults: list[Fault] = field(default_factory=list)


def collect(
    readers: Mapping[str, Reader], defaults: Mapping[str, object], sources: Iterable[Source]
) -> Settings:
    """Every setting from the first source that gives it, else its default; and the faults of *all* sources.

    A setting that has no reader is a fault (its text names the nearest valid key), and so is one that no source gives
    and that has no default.
    """
    found = Settings()
    for source in sources:
        unknown = 0
        for name in source.values:
            if name in readers:
                _take(found, source, name, readers[name])
            elif (unknown := unknown + 1) <= _UNKNOWN_SHOWN:
                found.faults.append(Fault(source.key(cut(name)), _unknown(name, readers, source)))
    for name in readers:
        if name in found.keys:
            continue
        if name in defaults:
            found.values[name], found.origins[name] = defaults[name], DEFAULT_ORIGIN
        else:
            found.faults.append(Fault(name, "is required"))
    return found


def _take(found: Settings, source: Source, name: str, read: Reader) -> None:
    is_first = name not in found.keys
    if is_first:
        found.keys[name] = source.key(name)
    try:
        kept = read(source.values[name], source.is_text)
    except UsageError as error:
        found.faults.append(Fault(source.key(name), str(error)))
    except ConfigError as error:
        # The setting has parts, and each fault has its path below the setting.
        found.faults.extend(Fault(source.key(name) + each.key, each.message) for each in error.faults)
    else:
        if is_first:
            found.values[name], found.origins[name] = kept, source.origin(name)


def _unknown(name: str, readers: Mapping[str, Reader], source: Source) -> str:
    near = nearest(name.lower(), readers, cutoff=0.5)
    if near:
        # The text of the fault already begins with the file and the place in a list.
        wanted = re.sub(r"^\[\d+\]\.", "", source.key(near).rpartition(": ")[2])
        return f"no such setting; did you mean {wanted}?"
    # Of a variable the whole name is shown; of the keys of a section only the last part differs.
    names = map(source.key, sorted(readers)) if source.is_text else sorted(readers)
    return f"no such setting; there are {', '.join(names)}"
