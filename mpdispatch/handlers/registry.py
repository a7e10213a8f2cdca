"""Handlers by their names. Used where jobs are enqueued and in the worker; no I/O, safe from any thread."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import DuplicateJobError, RegistrationError, UnknownJobError, UsageError
from mpdispatch.handlers.names import check_job_name
from mpdispatch.handlers.returns import Returned
from mpdispatch.handlers.signature import Signature
from mpdispatch.model import RESERVED_PREFIX, NewJob
from mpdispatch.policy.backoff import BackoffSpec
from mpdispatch.policy.names import check_name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobDefinition:
    """A handler and the defaults of its jobs.

    Raises RegistrationError: the function cannot be a handler (a generator, a class, `*args` …), or the name cannot be
    one.
    """

    name: str
    function: Callable[..., Any]
    queue: str = "default"
    priority: int = 0
    max_retries: int = 3
    timeout_s: float | None = None
    expires_s: float | None = None
    """How long after its enqueue, or after its slot, a job may be started; then it is cancelled."""
    backoff: BackoffSpec | None = None
    plain_job: NewJob = field(init=False, repr=False)
    """The job that an enqueue without options makes, with no payload yet."""
    signature: Signature = field(init=False, repr=False)
    returns: Returned = field(init=False, repr=False)
    is_async: bool = field(init=False, repr=False)
    """Whether a call gives something to await; the worker's event loop awaits it."""

    def __post_init__(self) -> None:
        try:
            check_name("job name", self.name)
        except UsageError as error:
            raise RegistrationError(str(error)) from error
        _refuse_unrunnable(self.name, self.function)
        object.__setattr__(self, "plain_job", self._plain_job())
        object.__setattr__(self, "signature", Signature(self.name, self.function))
        object.__setattr__(self, "returns", Returned(self.name, self.function))
        object.__setattr__(self, "is_async", is_async(self.function))

    def _plain_job(self) -> NewJob:
        timeout_us, expires_us = (
            None if given_s is None else round(given_s * SECOND_US)
            for given_s in (self.timeout_s, self.expires_s)
        )
        return NewJob(
            name=self.name,
            payload=b"",
            queue=self.queue,
            priority=self.priority,
            max_retries=self.max_retries,
            timeout_us=timeout_us,
            expires_us=expires_us,
        )

    @property
    def where(self) -> str:
        """The function for people: `module:qualname`."""
        module = getattr(self.function, "__module__", None) or "?"
        return f"{module}:{getattr(self.function, '__qualname__', repr(self.function))}"

    @property
    def reference(self) -> str | None:
        """`module:qualname` by which another process finds this handler, or None.

        To be read after the module is imported: a decorator runs before the module has the function's name.
        """
        module = sys.modules.get(getattr(self.function, "__module__", None) or "")
        found: Any = module
        for part in getattr(self.function, "__qualname__", "<locals>").split("."):
            found = getattr(found, part, None)
        if module is None or found is None:
            return None
        if module.__name__ == "__main__" and getattr(module, "__file__", None) is None:
            return None
        is_it = found is self.function or definition_of(found) is self
        return self.where if is_it or getattr(found, "__wrapped__", None) is self.function else None


def is_async(function: object) -> bool:
    """Whether a call of this gives something to await: it is an `async def`, wraps one, or its `__call__` is one."""
    inner = inspect.unwrap(function) if callable(function) else function
    return any(
        inspect.iscoroutinefunction(candidate)
        for candidate in (function, inner, getattr(type(inner), "__call__", None))  # noqa: B004 - the method itself
    )


def definition_of(thing: object) -> JobDefinition | None:
    """The definition that a decorated handler carries, or None."""
    definition = getattr(thing, "definition", None)
    return definition if isinstance(definition, JobDefinition) else None


def _refuse_unrunnable(name: str, function: object) -> None:
    if isinstance(function, type) or not callable(function):
        raise RegistrationError(f"job {name!r}: a handler must be a function, not {function!r}")
    inner = inspect.unwrap(function)
    is_async_generator = inspect.isasyncgenfunction(inner)
    if is_async_generator or inspect.isgeneratorfunction(inner):
        kind = "an async generator" if is_async_generator else "a generator"
        what = getattr(inner, "__qualname__", inner)
        raise RegistrationError(f"job {name!r}: {what} is {kind}; return the values instead")


class Registry:
    """Handlers by name. Grows while others read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # The mapping is replaced and never changed, so readers need no lock.
        self._definitions: Mapping[str, JobDefinition] = {}

    def add(self, definition: JobDefinition) -> None:
        """Take in a handler. Adding the same definition again does nothing.

        Raises DuplicateJobError: another handler has the name.
        """
        with self._lock:
            first = self._definitions.get(definition.name)
            if first is definition:
                return
            if first is not None:
                raise DuplicateJobError(definition.name, first.where, definition.where)
            self._definitions = {**self._definitions, definition.name: definition}

    def replace(self, old: JobDefinition, new: JobDefinition) -> None:
        """Take in a handler in the place of another one.

        Raises DuplicateJobError: another handler has the name of the new one.
        """
        with self._lock:
            first = self._definitions.get(new.name)
            if first is not None and first is not old:
                raise DuplicateJobError(new.name, first.where, new.where)
            self._definitions = {
                each.name: each
                for each in (new if kept is old else kept for kept in self._definitions.values())
            }

    def get(self, name: str) -> JobDefinition:
        """Raises UnknownJobError, which lists the registered names; UsageError for a reserved name."""
        if name.startswith(RESERVED_PREFIX):
            check_job_name(name)
        definition = self._definitions.get(name)
        if definition is None:
            raise UnknownJobError(name, known=sorted(self._definitions))
        return definition

    def find(self, name: str) -> JobDefinition | None:
        return self._definitions.get(name)

    def names(self) -> frozenset[str]:
        return frozenset(self._definitions)

    def definitions(self) -> tuple[JobDefinition, ...]:
        """In the order they were added."""
        return tuple(self._definitions.values())
