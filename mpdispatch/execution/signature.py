"""The arguments of a handler as a JSON object, checked against its signature. Pure: no I/O, no clock.

The same check runs where a job is enqueued and where it runs. Values are written once and read back with the
types of the signature: what the worker will see is what was checked.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mpdispatch.errors import Fault, PayloadError, RegistrationError
from mpdispatch.execution.safejson import (
    HOOKED_TYPES,
    Reader,
    dec_hook,
    encode,
    fault_of_encoding,
    lossy,
    may_be_lossy,
)

__all__ = ["Signature"]

# Anything callable that `inspect` understands will do.
Function = Callable[..., Any]

_PLAIN = frozenset({str, bool, type(None)})
_UNSAFE_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "takes *{name}: a job's arguments are kept by name, list them one by one",
    inspect.Parameter.VAR_KEYWORD: "takes **{name}: list the arguments, or take one dict",
    inspect.Parameter.POSITIONAL_ONLY: "has the positional-only parameter {name!r}: arguments go by name",
}


class Signature:
    """What a handler takes, and the way there and back.

    Raises:
        RegistrationError: the signature cannot be a job's; names the parameter and the reason.
    """

    __slots__ = ("_decode", "_decoders", "_is_any", "_keyed", "_positional", "_required", "job_name", "names")

    def __init__(self, job_name: str, function: Function) -> None:
        self.job_name = job_name
        parameters = _parameters(job_name, function)
        self.names = tuple(parameters)
        self._positional = tuple(n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY)
        self._required = tuple(n for n, p in parameters.items() if p.default is p.empty)
        hints = {name: _hint(job_name, function, name, p.annotation) for name, p in parameters.items()}
        self._decoders = {name: _decoder(job_name, name, hint) for name, hint in hints.items()}
        self._is_any = frozenset(name for name, hint in hints.items() if hint is Any)
        # UNSET marks what was not given: defaults stay in the function, so a newer one applies to older jobs.
        fields = [(n, h) if n in self._required else (n, h, msgspec.UNSET) for n, h in hints.items()]
        model = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(model, dec_hook=dec_hook).decode

    # ---------------------------------------------------------------- enqueueing side

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, max_bytes: int) -> bytes:
        """The payload of a call: a JSON object of the arguments given (defaults are not stored).

        Raises:
            PayloadError: names every argument that is unknown, missing, given twice or of the wrong type, that
                JSON cannot keep (NaN, other keys than strings, half surrogates, depth over 200), or that
                makes the payload larger than `max_bytes`.
        """
        given = self._bind(args, kwargs) if args else kwargs
        try:
            payload = encode(given)
            arguments = self._decode(payload)
        except Exception:  # noqa: BLE001 - the user's classes are built here and may raise anything
            faults = self._explain(given) or [Fault("", "these arguments cannot be written as JSON")]
            raise PayloadError(self.job_name, faults) from None
        if len(payload) > max_bytes:
            raise PayloadError(self.job_name, [_too_large(given, len(payload), max_bytes)])
        if self._is_suspicious(given, arguments) or may_be_lossy(payload):
            faults = [fault for name, value in given.items() for fault in self._lost(name, value)]
            if faults:
                raise PayloadError(self.job_name, faults)
        return payload

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        given = dict(zip(self._positional, args, strict=False))
        twice = [Fault(name, "was given twice") for name in kwargs if name in given]
        if len(args) > len(self._positional):
            text = f"takes {len(self._positional)} positional arguments, {len(args)} were given"
            twice.append(Fault("", text))
        if twice:
            raise PayloadError(self.job_name, [*twice, *self._explain({**given, **kwargs})])
        given.update(kwargs)
        return given

    def _is_suspicious(self, given: Mapping[str, Any], arguments: Any) -> bool:
        """Whether a value could have changed on the way: it is not plain, nor equal to what came back."""
        for name, value in given.items():
            kind = type(value)
            if kind in _PLAIN or (kind is int and -(1 << 63) <= value < 1 << 64):
                continue
            try:
                # One comparison in C instead of a walk in Python. NaN and changed keys compare unequal.
                if getattr(arguments, name) == value:
                    continue
            except Exception:  # noqa: BLE001 - the user's __eq__ may raise anything; then we walk
                return True
            return True
        return False

    def _lost(self, name: str, value: Any) -> list[Fault]:
        try:
            return lossy(value, name, Reader.UNTYPED if name in self._is_any else Reader.TYPED)
        except (TypeError, ValueError, RecursionError) as error:
            return [Fault(name, fault_of_encoding(error))]

    def _explain(self, given: Mapping[str, Any]) -> list[Fault]:
        """Everything wrong with these arguments. Slow: tries each of them by itself."""
        allowed = ", ".join(self.names) or "none"
        faults = [
            Fault(n, f"is no argument of this job; it takes: {allowed}") for n in given if n not in self.names
        ]
        faults += [Fault(name, "is missing") for name in self._required if name not in given]
        for name, decoder in self._decoders.items():
            if name in given and (text := _misfit(decoder, given[name])):
                faults.append(Fault(name, text))
        return faults

    # ---------------------------------------------------------------- worker side

    def decode(self, payload: bytes) -> dict[str, Any]:
        """The keyword arguments to call the handler with, typed as its signature says.

        Raises:
            PayloadError: the payload does not fit: it was stored by hand, or for an older handler.
        """
        try:
            arguments = self._decode(payload)
        except Exception as error:  # noqa: BLE001 - as in encode
            raise PayloadError(self.job_name, self._explain_stored(payload, error)) from None
        unset = msgspec.UNSET
        return {name: value for name in self.names if (value := getattr(arguments, name)) is not unset}

    def _explain_stored(self, payload: bytes, error: Exception) -> list[Fault]:
        try:
            given = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, ValueError, RecursionError):
            return [Fault("", f"the stored payload is no JSON object: {error}")]
        return self._explain(given) or [Fault("", str(error))]


def _misfit(decoder: msgspec.json.Decoder[Any], value: Any) -> str:
    try:
        written = encode(value)
    except Exception as error:  # noqa: BLE001 - properties and __getattr__ of the user's objects run here
        return fault_of_encoding(error)
    try:
        decoder.decode(written)
    except Exception as error:  # noqa: BLE001 - __post_init__ of the user's classes may raise anything
        # "Expected `int`, got `str` - at `$.x`": `$` is the argument itself, and its name stands before.
        return str(error).replace(" - at `$`", "")
    return ""


def _too_large(given: Mapping[str, Any], size: int, max_bytes: int) -> Fault:
    largest = max(given, key=lambda name: len(encode(given[name])))
    text = f"the payload is {size:,} bytes of JSON, at most {max_bytes:,} are allowed (max_payload_bytes)"
    return Fault(
        largest, f"is the largest of the arguments, and {text}; keep the data in a file and pass its path"
    )


# ---------------------------------------------------------------- reading a signature


def _parameters(job_name: str, function: Function) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"job {job_name!r}: its signature cannot be read: {error}") from error
    for name, parameter in parameters.items():
        if parameter.kind in _UNSAFE_KINDS:
            raise RegistrationError(f"job {job_name!r} {_UNSAFE_KINDS[parameter.kind].format(name=name)}")
    return dict(parameters)


def _hint(job_name: str, function: Function, name: str, annotation: Any) -> Any:
    """The type of one parameter; strings (`from __future__ import annotations`) are resolved."""
    if annotation is inspect.Parameter.empty or annotation is object:
        return Any
    # One by one, without the return type: that one often exists for type checkers only.
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=scope, include_extras=True)[name]
    except Exception as error:
        raise RegistrationError(
            f"job {job_name!r}: the annotation of {name!r} cannot be resolved ({error}); "
            "it must be importable at run time, from the module's top level"
        ) from error


def _decoder(job_name: str, name: str, hint: Any) -> msgspec.json.Decoder[Any]:
    try:
        foreign = next(_foreign_types(msgspec.inspect.type_info(hint)), None)
        if foreign is None:
            return msgspec.json.Decoder(hint, dec_hook=dec_hook)
        reason = f"{getattr(foreign, '__qualname__', foreign)} cannot be rebuilt from JSON"
    except Exception as error:  # noqa: BLE001 - msgspec resolves the fields of the user's classes here
        reason = str(error)
    raise RegistrationError(
        f"job {job_name!r}: the annotation of {name!r} does not work for a job: {reason}. "
        "Use plain types, dataclasses, msgspec Structs, TypedDicts, enums, dates, UUID, Decimal or Path"
    )


def _foreign_types(root: msgspec.inspect.Type) -> Iterator[Any]:
    """The classes in a type that neither msgspec nor our hooks can build."""
    stack: list[Any] = [root]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if isinstance(node, (tuple, list)):
            stack.extend(node)
        elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, msgspec.inspect.CustomType):
                if not (isinstance(node.cls, type) and issubclass(node.cls, HOOKED_TYPES)):
                    yield node.cls
            elif isinstance(node, msgspec.inspect.Field):
                stack.append(node.type)
            else:
                stack.extend(getattr(node, field) for field in node.__struct_fields__)
