"""The parameters of a handler and their types, or why they cannot be a job's; defaults of dataclasses. Pure."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect as model

from mpdispatch.errors import RegistrationError
from mpdispatch.handlers.safejson import HOOKED_TYPES, is_model

Function: TypeAlias = Callable[..., Any]
"""Anything callable that `inspect` understands."""

_REFUSED_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "takes *{name}: a job's arguments are kept by name, list them one by one",
    inspect.Parameter.VAR_KEYWORD: "takes **{name}: list the arguments, or take one dict",
    inspect.Parameter.POSITIONAL_ONLY: "has the positional-only parameter {name!r}: arguments go by name",
}
_LISTS = (list, tuple, set, frozenset)
# Values of these types are JSON's own; a value of any other type comes back as something else.
_BARE = (model.AnyType, model.NoneType, model.BoolType, model.IntType, model.FloatType, model.StrType)


def parameters_of(job_name: str, function: Function) -> dict[str, inspect.Parameter]:
    """The parameters by name. Raises RegistrationError if they cannot all be passed by name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"job {job_name!r}: its signature cannot be read: {error}") from error
    if (first := next(iter(parameters), None)) in ("self", "cls") and _is_in_class(function):
        raise RegistrationError(
            f"job {job_name!r} is a method, and a worker has no {first!r} for it: use a function, or a staticmethod"
        )
    for name, parameter in parameters.items():
        if parameter.kind in _REFUSED_KINDS:
            raise RegistrationError(f"job {job_name!r} {_REFUSED_KINDS[parameter.kind].format(name=name)}")
    return dict(parameters)


def _is_in_class(function: Function) -> bool:
    holder = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(holder) and not holder.endswith("<locals>")


def hint_of(job_name: str, function: Function, name: str, annotation: Any) -> Any:
    """The type of one parameter; strings (`from __future__ import annotations`) are resolved.

    Raises RegistrationError: it cannot be resolved.
    """
    if annotation is inspect.Parameter.empty or annotation is object:
        return Any
    # Parameter by parameter, and without the return type, which often exists for type checkers only.
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=scope, include_extras=True)[name]
    except Exception as error:
        raise RegistrationError(
            f"job {job_name!r}: the annotation of {name!r} cannot be resolved ({error}); "
            "it must be importable at run time, from the module's top level"
        ) from error


def type_info(job_name: str, name: str, hint: Any) -> model.Type:
    """The type as msgspec sees it. Raises RegistrationError: values of this type cannot be rebuilt from JSON."""
    try:
        info = model.type_info(hint)
        msgspec.json.Decoder(hint)
        foreign = next((node.cls for node in nodes_of(info) if is_foreign(node)), None)
        if foreign is None:
            return info
        reason = f"{getattr(foreign, '__qualname__', foreign)} cannot be rebuilt from JSON"
    except Exception as error:  # noqa: BLE001 - msgspec resolves the fields of the user's classes here
        reason = _reason(str(error), hint)
    raise RegistrationError(
        f"job {job_name!r}: the annotation of {name!r} does not work for a job: {reason}. Use plain types, "
        "dataclasses, pydantic models, msgspec Structs, TypedDicts, enums, dates, UUID, Decimal or Path"
    )


def _reason(text: str, hint: Any) -> str:
    """The message of msgspec about a type, for readers who do not know msgspec."""
    if not text.startswith("Type unions"):
        return text
    where = text.rpartition(" - type ")[2].removesuffix(" is not supported") or str(hint)
    if "custom type" in text:
        return f"in {where}, a Path or a pydantic model can stand only alone or beside None"
    if "str-like" in text:
        return f"several types of {where} are text in JSON, which cannot tell them apart; keep one of them"
    if "dataclass" in text:
        return f"JSON cannot tell the classes of {where} apart; keep one, or make them tagged msgspec Structs"
    return text


def choices_of(info: model.Type) -> str:
    """The values that the enum or Literal in this type allows, for an error; empty if the type has none or several."""
    found = [node for node in nodes_of(info) if isinstance(node, (model.EnumType, model.LiteralType))]
    if len(found) != 1:
        return ""
    node = found[0]
    values = node.values if isinstance(node, model.LiteralType) else [member.value for member in node.cls]
    return ", ".join(map(repr, values))


def is_foreign(node: object) -> bool:
    """Whether this is a type of which no value can be built from JSON."""
    return isinstance(node, model.CustomType) and not (
        isinstance(node.cls, type) and (issubclass(node.cls, HOOKED_TYPES) or is_model(node.cls))
    )


def nodes_of(root: model.Type) -> Iterator[Any]:
    """The type and all types inside it, each once: a dataclass may refer to itself."""
    stack: list[Any] = [root]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if isinstance(node, (tuple, list)):
            stack.extend(node)
        elif isinstance(node, model.Field):
            stack.append(node.type)
        elif isinstance(node, model.Type) and id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(getattr(node, field) for field in node.__struct_fields__)


def is_untyped(info: model.Type) -> bool:
    """Whether this is a shape of plain JSON with something untyped in it: `Any`, `dict`, `list[Any] | None` …

    >>> is_untyped(model.type_info(dict[str, Any] | None)), is_untyped(model.type_info(dict[int, str]))
    (True, False)
    """
    nodes = list(nodes_of(info))
    return any(isinstance(node, model.AnyType) for node in nodes) and all(map(_is_plain, nodes))


def _is_plain(node: model.Type) -> bool:
    if isinstance(node, model.DictType):
        return isinstance(node.key_type, (model.AnyType, model.StrType))
    return isinstance(node, (*_BARE, model.ListType, model.UnionType))


def has_defaults(info: model.Type) -> bool:
    """Whether a value of this type may hold a dataclass with a default to fill in."""
    return any(isinstance(node, model.DataclassType) and _defaults_of(node.cls) for node in nodes_of(info))


def fill_defaults(value: Any) -> None:
    """Set the missing fields of this value, which was read from JSON, and of all values inside it.

    msgspec (0.22) sets a missing field only if a factory makes its default. Any other default is found on the class, but
    not in the instance: `vars()` does not show it, and JSON made of the instance omits it.
    """
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, _LISTS):
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
