"""What a handler returns, by its annotation: whether JSON can keep it, and how it is read back. Pure.

A result that cannot be kept fails its job when all the work is done, so an annotation that tells is refused when the
handler is registered. Where there is any doubt it is allowed: a base class may stand for a dataclass, an annotation
that exists for type checkers only for anything.
"""

from __future__ import annotations

import abc
import datetime
import decimal
import enum
import inspect
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import msgspec
from msgspec import inspect as model

from mpdispatch.errors import RegistrationError, ResultError
from mpdispatch.handlers.annotations import Function, fill_defaults, has_defaults, hint_of, is_foreign, nodes_of
from mpdispatch.handlers.arrays import is_array, remedy_for
from mpdispatch.handlers.safejson import HOOKED_TYPES, dec_hook, fault_of_encoding, is_model

_VALUES = (
    *(str, int, float, dict, list, tuple, set, frozenset, bytes, bytearray, memoryview),
    *(datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, enum.Enum),
    *HOOKED_TYPES,
)
"""An annotation with a subclass of these often means a plain value."""
_FIELDS = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__")
_NUMBERS = (model.IntType, model.FloatType)


class Returned:
    """The result of a handler.

    Raises RegistrationError: JSON cannot keep what the annotation names.
    """

    __slots__ = ("__dict__", "_hint", "_job_name")

    def __init__(self, job_name: str, function: Function) -> None:
        self._job_name, self._hint = job_name, _hint_of(job_name, function)
        info = _info_of(self._hint)
        if info is not None and (fault := next(_faults(info, frozenset()), None)) is not None:
            text = getattr(self._hint, "__qualname__", None) or str(self._hint)
            raise RegistrationError(
                f"job {job_name!r}: its result, annotated as {text}, could not be kept: {fault}. Return plain data, a"
                " dataclass, a pydantic model, a msgspec Struct, or None"
            )

    def read(self, stored: Any) -> Any:
        """The value that the handler returned, from its JSON as plain values. As they are, where no annotation tells.

        Raises ResultError: the annotation does not fit what was returned.
        """
        if self._convert is None:
            return stored
        try:
            return self._convert(stored)
        except Exception as error:  # of the user's classes, which are built here
            raise ResultError(
                f"the result of job {self._job_name!r} does not fit its annotation: {fault_of_encoding(error)};"
                " engine.wait(job).result has it as plain data"
            ) from error

    @cached_property
    def _convert(self) -> Callable[[Any], Any] | None:
        info = _info_of(self._hint)
        if info is None or isinstance(info, (model.AnyType, model.NoneType)):
            return None
        if any(map(is_foreign, nodes_of(info))):  # as NumPy's, which only the encoder knows
            return None
        hint, is_to_fill = self._hint, has_defaults(info)

        def convert(stored: Any) -> Any:
            value = msgspec.convert(stored, hint, str_keys=True, dec_hook=dec_hook)
            if is_to_fill:
                fill_defaults(value)
            return value

        return convert


def _hint_of(job_name: str, function: Function) -> Any:
    try:
        return hint_of(job_name, function, "return", inspect.signature(function).return_annotation)
    except RegistrationError:
        return Any  # it is for type checkers only


def _info_of(hint: Any) -> model.Type | None:
    """None: msgspec has no decoder for it, which says little about what can be written."""
    try:
        return model.type_info(hint)
    except Exception:  # noqa: BLE001 - msgspec resolves the fields of the user's classes here
        return None


def _children(info: model.Type) -> list[model.Type]:
    """The types of which there is a value in (nearly) every value of this type."""
    match info:
        case model.ListType() | model.VarTupleType() | model.SetType() | model.FrozenSetType():
            return [info.item_type]
        case model.TupleType():
            return list(info.item_types)
        case model.DictType():
            return [info.key_type, info.value_type]
        case model.DataclassType() | model.StructType() | model.TypedDictType() | model.NamedTupleType():
            return [field.type for field in info.fields if field.required and not field.name.startswith("_")]
        case _:
            return []


def _faults(info: model.Type, outer: frozenset[int]) -> Iterator[str]:
    """What of this type JSON can certainly not keep. `outer`: the types around it."""
    if isinstance(info, model.CustomType):
        if _is_unwritable(info.cls):
            kind = f"{info.cls.__module__}.{info.cls.__qualname__}".removeprefix("builtins.")
            yield f"a value of type {kind} cannot be written as JSON{remedy_for(info.cls)}"
    elif isinstance(info, model.DictType) and isinstance(info.key_type, _NUMBERS):
        yield "keys that are numbers would become strings; use strings as keys"
    if id(info) not in outer:
        for child in _children(info):
            yield from _faults(child, outer | {id(info)})


def _is_unwritable(kind: Any) -> bool:
    """Whether certainly no value of this class can be written."""
    if not isinstance(kind, type) or isinstance(kind, abc.ABCMeta) or getattr(kind, "_is_protocol", False):
        return False
    if kind is object or hasattr(kind, "__await__") or is_array(kind) or issubclass(kind, _VALUES):
        return False
    return not any(map(_is_writable, _with_subclasses(kind)))


def _with_subclasses(kind: type) -> Iterator[type]:
    stack, seen = [kind], set[type]()
    while stack:
        each = stack.pop()
        if each not in seen:
            seen.add(each)
            yield each
            stack += type.__subclasses__(each)


def _is_writable(kind: type) -> bool:
    return is_model(kind) or any(hasattr(kind, mark) for mark in _FIELDS)
