"""Sets the defaults of dataclasses that were read from JSON. Pure.

msgspec (0.22) sets a missing field only if a factory makes its default. Any other default is found on the class, but
not in the instance: `vars()` does not show it, and JSON made of the instance omits it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
from msgspec import inspect as model

from mpdispatch.handlers.annotations import nodes_of

_ARRAYS = (list, tuple, set, frozenset)


def has_defaults(info: model.Type) -> bool:
    """Whether a value of this type may hold a dataclass with a default to fill in."""
    return any(isinstance(node, model.DataclassType) and _defaults_of(node.cls) for node in nodes_of(info))


def fill_defaults(value: Any) -> None:
    """Set the missing fields of this value and of all values inside it."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, _ARRAYS):
            stack += each
        elif isinstance(each, dict):
            stack += each.values()
        elif isinstance(each, msgspec.Struct):
            stack += [getattr(each, name) for name in each.__struct_fields__]
        elif dataclasses.is_dataclass(each):
            here = getattr(each, "__dict__", None)
            if here is not None:
                for name, default in _defaults_of(type(each)).items():
                    if name not in here:
                        object.__setattr__(each, name, default)  # as the __init__ of a frozen dataclass does
            stack += [getattr(each, field.name, None) for field in dataclasses.fields(each)]


def _defaults_of(kind: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(kind) or "__dict__" not in dir(kind):
        return {}
    return {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING and field.init
    }
