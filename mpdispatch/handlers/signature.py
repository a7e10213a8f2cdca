"""The arguments of a handler as a JSON object, checked against its signature. Pure: no I/O, no clock.

The same check runs where a job is enqueued and where it runs. An enqueue writes the values and reads them back with the
types of the signature, so what was checked is what the worker will see.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from mpdispatch.errors import Fault, PayloadError
from mpdispatch.handlers.annotations import (
    Function,
    choices_of,
    fill_defaults,
    has_defaults,
    hint_of,
    is_untyped,
    parameters_of,
    type_info,
)
from mpdispatch.handlers.arrays import ArrayMet, ArraysTooLarge, arrays_up_to, restart_count
from mpdispatch.handlers.roundtrip import changed
from mpdispatch.handlers.safejson import (
    Reader,
    dec_hook,
    encode,
    fault_of_encoding,
    is_shallow,
    lossy,
    unwritable,
)
from mpdispatch.policy.names import cut, nearest, shown

OPTION_NAMES = frozenset(
    (
        "queue",
        "priority",
        "run_at",
        "delay",
        "max_retries",
        "timeout",
        "expires",
        "idempotency_key",
        "after",
        "on_parent_failure",
        "connection",
    )
)
"""Keywords of `options`, to recognise them where somebody gives them to `enqueue`."""

_UNKNOWN_SHOWN = 20

_PLAIN = frozenset({str, bool, type(None)})


class ArgumentNames(msgspec.Struct, frozen=True):
    """The names of a handler's arguments: all, and those without a default."""

    names: tuple[str, ...]
    required: tuple[str, ...]

    def faults(self, given: Collection[str]) -> list[Fault]:
        """Which of the given names are unknown, and which names are missing."""
        unknown = islice((name for name in given if name not in self.names), _UNKNOWN_SHOWN)
        faults = [Fault(cut(name), self._unknown(name)) for name in unknown]
        return faults + [Fault(name, "is missing") for name in self.required if name not in given]

    def _unknown(self, name: str) -> str:
        near = nearest(cut(name, 200), self.names)
        hint = f"did you mean {near}? " if near else ""
        if not near and name in OPTION_NAMES:
            hint = f"options of a job are set by .options({name}=...).enqueue(...); "
        return f"is no argument of this job; {hint}it takes: {', '.join(self.names) or 'none'}"


class Signature:
    """The arguments of a handler: their names and types, and how they become JSON and come back.

    Raises RegistrationError: the signature cannot be a job's; names the parameter and the reason.
    """

    __slots__ = ("_decode", "_decoders", "_infos", "_positional", "_required", "_to_fill", "job_name", "names")

    def __init__(self, job_name: str, function: Function) -> None:
        self.job_name = job_name
        parameters = parameters_of(job_name, function)
        self.names = tuple(parameters)
        self._positional = tuple(n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY)
        self._required = tuple(n for n, p in parameters.items() if p.default is p.empty)
        hints = {name: hint_of(job_name, function, name, p.annotation) for name, p in parameters.items()}
        self._infos = {name: type_info(job_name, name, hint) for name, hint in hints.items()}
        self._decoders = {name: msgspec.json.Decoder(hint, dec_hook=dec_hook) for name, hint in hints.items()}
        # UNSET marks arguments that were not given. Their defaults stay in the function, so that a changed default applies
        # to jobs that are already stored.
        fields = [(n, h) if n in self._required else (n, h, msgspec.UNSET) for n, h in hints.items()]
        model = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(model, dec_hook=dec_hook).decode
        self._to_fill = tuple(name for name, info in self._infos.items() if has_defaults(info))

    # ---------------------------------------------------------------- enqueueing side

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, max_bytes: int) -> bytes:
        """The payload of a call: a JSON object of the arguments given (defaults are not stored).

        NumPy scalars and arrays are kept as plain numbers, text and lists.

        Raises PayloadError: names every argument that is unknown, missing, given twice or of the wrong type, that JSON
        cannot keep (NaN, other keys than strings, half surrogates, depth over 200), or that makes the payload larger
        than `max_bytes`.
        """
        given = self._bind(args, kwargs) if args else kwargs
        try:
            payload = encode(given)
            arguments = self._decode(payload)
        except ArrayMet:
            with arrays_up_to(max_bytes):
                return self.encode((), given, max_bytes=max_bytes)
        except Exception as error:  # noqa: BLE001 - the user's classes are built here and may raise anything
            why = "these arguments cannot be written as JSON"
            if isinstance(error, ArraysTooLarge):
                why = str(error)  # each argument alone may be small enough
            raise PayloadError(self.job_name, self._explain(given) or [Fault("", why)]) from None
        if len(payload) > max_bytes:
            raise PayloadError(self.job_name, [_too_large(given, len(payload), max_bytes)])
        if self._is_suspicious(given, arguments) or not is_shallow(payload):
            faults = [
                fault for n, value in given.items() for fault in self._lost(n, value, getattr(arguments, n))
            ]
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
        """Whether a value could have changed: it is neither plain nor equal to the value read back."""
        for name, value in given.items():
            kind = type(value)
            if kind in _PLAIN or (kind is int and -(1 << 63) <= value < 1 << 64):
                continue
            try:
                # One comparison in C instead of a walk in Python. NaN and changed keys are unequal.
                if getattr(arguments, name) == value:
                    continue
            except Exception:  # noqa: BLE001 - the user's __eq__ may raise anything; then we walk
                return True
            return True
        return False

    def _lost(self, name: str, value: Any, came_back: Any = msgspec.UNSET) -> list[Fault]:
        """The parts of this argument that its JSON does not keep."""
        if isinstance(value, msgspec.Raw):
            return []  # it came from JSON
        info = self._infos[name]
        try:
            if is_untyped(info):
                return lossy(value, name, Reader.UNTYPED)
            faults = lossy(value, name, Reader.TYPED)
            if not faults and came_back is not msgspec.UNSET:
                faults = changed(value, came_back, name)
            return faults
        except Exception as error:  # noqa: BLE001 - properties and __eq__ of the user's objects run here
            return [Fault(name, fault_of_encoding(error))]

    @property
    def named(self) -> ArgumentNames:
        return ArgumentNames(self.names, self._required)

    def _explain(self, given: Mapping[str, Any]) -> list[Fault]:
        """Everything wrong with these arguments. Slow: each is tried alone."""
        faults = self.named.faults(given)
        for name, decoder in self._decoders.items():
            if name not in given:
                continue
            try:
                fault = self._misfit(name, decoder, given[name])
            except ArraysTooLarge as error:
                faults.append(Fault(name, str(error)))  # looking further would expand the arrays
                continue
            if fault:
                # NaN was written as null, which is no float: name the NaN instead.
                faults += self._lost(name, given[name]) or [fault]
        return faults

    def _misfit(self, name: str, decoder: msgspec.json.Decoder[Any], value: Any) -> Fault | None:
        """Why one argument does not survive JSON, or None. Raises ArraysTooLarge."""
        restart_count()
        try:
            written = encode(value)
        except ArraysTooLarge:
            raise
        except Exception as error:  # noqa: BLE001 - properties and __getattr__ of the user's objects run here
            return unwritable(value, name, error)
        try:
            decoder.decode(written)
        except Exception as error:  # noqa: BLE001 - __post_init__ of the user's classes may raise anything
            # In "Expected `int`, got `str` - at `$.x`", `$` is the argument, whose name the fault has already.
            text, _, place = fault_of_encoding(error).partition(" - at `$")
            place = place.removesuffix("`")
            if text.startswith("Invalid enum value") and (choices := choices_of(self._infos[name])):
                text += f"; allowed: {choices}"
            elif text.startswith("Invalid ") and not place and not isinstance(value, msgspec.Raw):
                text += f": {shown(value)}"
            return Fault(name + place, text or type(error).__name__)
        return None

    # ---------------------------------------------------------------- worker side

    def decode(self, payload: bytes, job_id: int | None = None) -> dict[str, Any]:
        """The keyword arguments to call the handler with, typed as its signature says.

        The payload may be anything. `job_id`, for the message, is the job whose row holds it.

        Raises PayloadError: the payload does not fit; it was stored by hand, or for an older handler.
        """
        try:
            arguments = self._decode(payload)
        except Exception as error:  # noqa: BLE001 - as in encode
            raise PayloadError(self.job_name, self._explain_stored(payload, error, job_id)) from None
        for name in self._to_fill:
            fill_defaults(getattr(arguments, name))
        unset = msgspec.UNSET
        return {name: value for name in self.names if (value := getattr(arguments, name)) is not unset}

    def _explain_stored(self, payload: bytes, error: Exception, job_id: int | None) -> list[Fault]:
        where = "the stored payload" if job_id is None else f"the payload of job {job_id} in the store"
        try:
            given = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, ValueError) as why:
            return [Fault("", f"{where} is no JSON object: {why if payload else 'it is empty'}")]
        except RecursionError as why:
            return [Fault("", f"{where} {fault_of_encoding(why)}")]
        return self._explain(given) or [Fault("", fault_of_encoding(error))]


def _too_large(given: Mapping[str, Any], size: int, max_bytes: int) -> Fault:
    restart_count()
    largest = max(given, key=lambda name: len(encode(given[name])))
    text = f"the payload is {size:,} bytes of JSON, at most {max_bytes:,} are allowed (max_payload_bytes)"
    return Fault(
        largest, f"is the largest of the arguments, and {text}; keep the data in a file and pass its path"
    )
