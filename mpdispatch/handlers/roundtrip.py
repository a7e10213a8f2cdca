"""What a typed argument would lose on its way through JSON: the value given is compared with the value read back. Pure.

Typed decoding is lenient: a dict with a misspelt key becomes a TypedDict without that key, a subclass becomes its base
class, a Path given for a `str` becomes text. The handler would get something else than a plain call gives it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from mpdispatch.errors import Fault
from mpdispatch.handlers.arrays import is_array, plain, restart_count
from mpdispatch.handlers.safejson import is_model
from mpdispatch.policy.names import cut, shown

_MAX_FAULTS = 10
_PLAIN = (str, int, float, bool, type(None))
_SETS = (set, frozenset)
_ARRAYS = (list, tuple)

_Pair = tuple[Any, Any, str]
"""The value given, the value read back, and their path."""


def changed(value: Any, came_back: Any, path: str) -> list[Fault]:
    """The places where the value read back differs from the value given, each by its path; at most about ten.

    Plain text or a number given for a richer type, and a list given for a tuple or set, are no differences: JSON has no
    other form of them.

    >>> [str(fault) for fault in changed({"a": 1, "zoom": 2}, {"a": 1}, "size")]
    ["size: has no field 'zoom'; it has: a"]
    """
    found: list[Fault] = []
    restart_count()
    stack: list[_Pair] = [(value, came_back, path)]
    while stack and len(found) < _MAX_FAULTS:
        old, new, where = stack.pop()
        if is_array(type(old)):
            old = plain(old)
        names = _fields(new)
        if isinstance(old, Mapping):
            found += _lost_keys(old, new, names, where)
        parts = _pairs_of_parts(old, new, names, where)
        if parts is not None:
            stack += parts
        elif not _is_same(old, new):
            found += _difference(old, new, where)
    return found


def _pairs_of_parts(old: Any, new: Any, names: Mapping[str, str], where: str) -> Iterable[_Pair] | None:
    """The parts to compare instead of the whole; None: it has none, or the two are not alike. `names`: fields of `new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _pairs_of_mappings(old, new, where)
    if names and (isinstance(old, Mapping) or type(old) is type(new)):
        return _pairs_of_fields(old, new, names, where)
    if isinstance(old, _ARRAYS) and isinstance(new, _ARRAYS):
        return ((a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(old, new, strict=False)))
    if isinstance(old, (*_ARRAYS, *_SETS)) and isinstance(new, _SETS):
        return ()  # sets have no order, so there are no pairs to compare; decoding has checked each item
    return None


def _fields(thing: Any) -> dict[str, str]:
    """The attributes of an object with fields, by their names in JSON; empty for anything else."""
    kind = type(thing)
    if dataclasses.is_dataclass(kind):
        return {field.name: field.name for field in dataclasses.fields(kind)}
    if hasattr(kind, "__struct_fields__"):
        return dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: field.name for field in kind.__attrs_attrs__}
    if is_model(kind):
        return {name: name for name in kind.model_fields}
    return {}


def _pairs_of_fields(old: Any, new: Any, names: Mapping[str, str], where: str) -> Iterator[_Pair]:
    if isinstance(old, Mapping):
        return ((old[k], getattr(new, n), f"{where}.{k}") for k, n in names.items() if k in old)
    return ((getattr(old, n), getattr(new, n), f"{where}.{n}") for n in names.values() if hasattr(old, n))


def _pairs_of_mappings(old: Mapping[Any, Any], new: Mapping[Any, Any], where: str) -> Iterator[_Pair]:
    if old.keys() == new.keys():
        yield from ((value, new[key], f"{where}.{key}") for key, value in old.items())
    elif len(old) == len(new):
        # The keys have another type now, but JSON keeps their order.
        for (key, value), came_back in zip(old.items(), new.values(), strict=True):
            yield value, came_back, f"{where}.{key}"


def _lost_keys(old: Mapping[Any, Any], new: Any, names: Mapping[str, str], where: str) -> Iterator[Fault]:
    if not isinstance(new, Mapping):
        if names and not is_model(type(new)):  # a pydantic model has its own rule for further keys
            yield from _unknown(old, names, where)
    elif len(old) != len(new):
        yield from _unknown(old, new, where)
    else:
        for before, after in zip(old, new, strict=True):
            if before not in new and not isinstance(before, str) and isinstance(after, str):
                yield Fault(where, f"the key {shown(before)} would become a string; use strings as keys")


def _unknown(old: Mapping[Any, Any], names: Mapping[str, Any], where: str) -> Iterator[Fault]:
    known = cut(", ".join(map(str, names)), 500) or "none"
    return (Fault(where, f"has no field {shown(key)}; it has: {known}") for key in old if key not in names)


def _is_same(old: Any, new: Any) -> bool:
    try:
        if isinstance(old, datetime) and isinstance(new, datetime) and old.tzinfo is not None:
            # In the hour that a zone repeats, Python calls no two times of different zones equal.
            return old.astimezone(UTC) == new.astimezone(UTC)
        return bool(old == new) or (old != old and new != new)
    except Exception:  # noqa: BLE001 - the user's __eq__, or a signalling NaN
        return type(old) is type(new) and repr(old) == repr(new)


def _difference(old: Any, new: Any, where: str) -> Iterator[Fault]:
    if type(old) is not type(new) and type(old) in _PLAIN and not isinstance(new, _PLAIN):
        return  # "a.pdf" for a Path, "2026-01-01" for a date: the annotation asks for that
    if isinstance(old, datetime) and isinstance(new, datetime):
        yield Fault(where, "its UTC offset has seconds, which JSON's times have not; use .astimezone(UTC)")
    elif isinstance(new, type(old)) or isinstance(old, (int, float)):
        yield Fault(where, f"{shown(old)} would come back as {shown(new)}")
    else:
        before = "Path" if isinstance(old, PurePath) else type(old).__qualname__
        got = f"the handler would get {type(new).__qualname__} instead of {before}"
        yield Fault(where, f"{got}; annotate it as {before}, or convert it first")
