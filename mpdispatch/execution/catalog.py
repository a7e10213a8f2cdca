"""What a supervisor knows of handlers: names, backoffs, timeouts, references. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mpdispatch.clock import SECOND_US
from mpdispatch.execution.findable import refuse_absent
from mpdispatch.handlers.description import AppDescription
from mpdispatch.handlers.registry import JobDefinition, Registry
from mpdispatch.model import COMMAND_JOB
from mpdispatch.policy.backoff import DEFAULT, BackoffSpec


class Catalog(Protocol):
    """The names of handlers, and the rules of their jobs."""

    def names(self) -> frozenset[str]:
        """The names of all jobs that a worker can run now."""
        ...

    def backoff_for(self, name: str) -> BackoffSpec:
        """The job's own backoff, else the engine's, else the default."""
        ...

    def timeout_us_for(self, name: str) -> int | None:
        """The handler's timeout, for a job without one, which was enqueued where the app was not known."""
        ...

    def reference_for(self, name: str) -> str | None:
        """`module:qualname` of the handler, for workers that started before it was registered; or None."""
        ...


def _as_us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND_US)


class LiveCatalog:
    """The catalog of an engine in this process, including handlers registered later."""

    def __init__(self, registry: Registry, backoff: BackoffSpec | None = None) -> None:
        self._registry, self._backoff = registry, backoff
        self._found: frozenset[str] | None = None

    def learn(self, found: Iterable[str] | None) -> None:
        """Take note of the handlers that workers have after importing the app. None: there are no workers any more.

        Raises RegistrationError: workers neither have a handler nor can import it.
        """
        self._found = None if found is None else frozenset(found)
        if self._found is not None:
            refuse_absent(self._registry.definitions(), self._found)

    def refuse_absent(self, definition: JobDefinition) -> None:
        """Raises RegistrationError if there are workers, and they can never find this nested function."""
        # Nested ones only: a decorator registers other functions before their module has them.
        if self._found is not None and "<" in getattr(definition.function, "__qualname__", ""):
            refuse_absent([definition], self._found)

    def names(self) -> frozenset[str]:
        return self._registry.names()

    def backoff_for(self, name: str) -> BackoffSpec:
        definition = self._registry.find(name)
        return (definition and definition.backoff) or self._backoff or DEFAULT

    def timeout_us_for(self, name: str) -> int | None:
        definition = self._registry.find(name)
        return None if definition is None else _as_us(definition.timeout_s)

    def reference_for(self, name: str) -> str | None:
        definition = self._registry.find(name)
        return definition.reference if definition is not None else None


# As text, so that only workers import it.
_COMMANDS = "mpdispatch.execution.commands:run_command"


class DescribedCatalog:
    """The catalog of an app that only the workers have imported; with `allow_commands` of command jobs, too."""

    def __init__(self, description: AppDescription, *, allow_commands: bool = False) -> None:
        self._backoff = description.backoff or DEFAULT
        self._jobs = dict(description.jobs)
        self._names = frozenset([*self._jobs, COMMAND_JOB] if allow_commands else self._jobs)
        self._timeouts_us = {name: _as_us(each) for name, each in description.timeouts.items()}

    def names(self) -> frozenset[str]:
        return self._names

    def backoff_for(self, name: str) -> BackoffSpec:
        return self._jobs.get(name) or self._backoff

    def timeout_us_for(self, name: str) -> int | None:
        return self._timeouts_us.get(name)

    def reference_for(self, name: str) -> str | None:
        return _COMMANDS if name == COMMAND_JOB else None
