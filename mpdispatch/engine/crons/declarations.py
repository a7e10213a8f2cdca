"""The cron entries that an app declares in its code: by `@engine.cron`, and by `engine.crons.register`.

A declaration is kept until a supervisor asks for it, so it may stand above or below `@engine.job`:

    @engine.cron("0 3 * * *")        @engine.job(queue="bulk")       @engine.cron("@hourly")
    @engine.job(queue="bulk")        @engine.cron("0 3 * * *")       def tidy(): ...      # a handler, too
    def report(): ...                def report(): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from mpdispatch.engine.crons.options import checked_spec
from mpdispatch.engine.definition import JobHandle, as_handle
from mpdispatch.engine.new_job import new_job
from mpdispatch.engine.options import PLAIN
from mpdispatch.errors import PayloadError, RegistrationError, UsageError
from mpdispatch.execution.file_cron_jobs import complete, known_here
from mpdispatch.execution.process_context import in_worker
from mpdispatch.handlers.file_crons import FileCrons
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.model import CronSpec, DeclaredCrons
from mpdispatch.policy.names import shown

if TYPE_CHECKING:  # which imports this module
    from mpdispatch.engine.engine import Engine

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class _Declaration:
    definition: JobDefinition
    name: str | None
    """None: that of its job."""
    payload: bytes
    schedule: str
    options: Mapping[str, Any]

    @property
    def entry_name(self) -> str:
        return self.name or self.definition.name

    def spec(self) -> CronSpec:
        """Raises UsageError. A timeout for all jobs is not kept with it: a claim adds that."""
        job = new_job(self.definition.plain_job, PLAIN, self.payload)
        return checked_spec(self.entry_name, self.schedule, job, self.options)


class CronDeclarations:
    """The declarations of one engine. No I/O but finding the host's zone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._declared: list[_Declaration] = []
        self._made_alone: list[JobHandle[..., Any]] = []
        """The handles that `@engine.cron` made of plain functions."""
        self._all: tuple[object, tuple[DeclaredCrons, ...]] | None = None
        self._warned: set[str] = set()

    def declare(
        self,
        function: Callable[P, R],
        schedule: str,
        options: Mapping[str, Any],
        *,
        name: str | None,
        args: Mapping[str, Any] | None,
    ) -> JobHandle[P, R]:
        """Declare an entry for a handler, which the engine takes in, or for a function that becomes one.

        Raises RegistrationError: names everything wrong with it, or the entry that has its name already.
        """
        is_handle = isinstance(function, JobHandle)
        handle = function if isinstance(function, JobHandle) else as_handle(None, function, {})
        definition = handle.definition
        what = f"cron {shown(name or definition.name)}"
        if args is not None and not isinstance(args, Mapping):
            raise RegistrationError(f"{what}: args must be a mapping of arguments, not {shown(args)}")
        try:
            entry = _Declaration(definition, name, self._payload(definition, args or {}), schedule, options)
            entry.spec()
        except PayloadError as error:
            faults = "; ".join(map(str, error.faults))
            raise RegistrationError(f"{what}: args: {faults} (args={{...}} gives them)") from error
        except UsageError as error:
            raise RegistrationError(f"{what}: {error}") from error
        self._refuse_taken(entry)
        self._engine.register(handle)
        self._declared.append(entry)
        if not is_handle:
            self._made_alone.append(handle)
        if self._engine.dispatcher.is_supervising:
            self._engine.store.wake()
        return handle

    def _payload(self, definition: JobDefinition, args: Mapping[str, Any]) -> bytes:
        most = self._engine.dispatcher.config.max_payload_bytes
        return definition.signature.encode((), args, max_bytes=most)

    def _refuse_taken(self, entry: _Declaration) -> None:
        for each in self._declared:
            if each.entry_name == entry.entry_name and each is not entry:
                raise RegistrationError(
                    f"cron {shown(entry.entry_name)}: there is an entry of that name already, for job"
                    f" {each.definition.name!r}; give this one a name of its own: name=..."
                )

    def made_alone(self, function: object) -> JobHandle[..., Any] | None:
        """This handle, if `@engine.cron` made it: then `@engine.job` may still give its options. Else None."""
        return next((each for each in self._made_alone if each is function), None)

    def replace(self, old: JobHandle[..., Any], new: JobHandle[P, R]) -> JobHandle[P, R]:
        """Let the new handle take the place of one that was made alone, and its entries. Gives the new one.

        Raises DuplicateJobError, RegistrationError: a name is taken.
        """
        self._engine.registry.replace(old.definition, new.definition)
        new.bind(self._engine)
        self._made_alone = [each for each in self._made_alone if each is not old]
        for each in self._declared:
            if each.definition is old.definition:
                each.definition = new.definition
                self._refuse_taken(each)
        self._all = None
        return new

    def all(self, file: FileCrons | None) -> tuple[DeclaredCrons, ...]:
        """What a supervisor keeps: all of them, and those of the app's own file. The same tuple until there are others.

        Raises ConfigError: the file's arguments do not fit a handler, or a program is not there.
        """
        registry = self._engine.registry
        version = (len(self._declared), len(registry.names()), file)
        if self._all is None or self._all[0] != version:
            found = [DeclaredCrons(origin="code", specs=tuple(each.spec() for each in self._declared))]
            if file is not None:
                most = self._engine.dispatcher.config.max_payload_bytes
                found.append(complete(file, known_here(registry, most, self._warn)))
            self._all = version, tuple(found)
        return self._all[1]

    def _warn(self, name: str) -> None:
        if name not in self._warned and not in_worker():  # a worker imports the app as well
            self._warned.add(name)
            self._engine.dispatcher.logger.warning(
                "a cron entry of the configuration file is for job %r, which no handler has yet", name
            )
