"""The engine: handlers, and enqueueing jobs for them into a dispatcher's store. All else done to jobs is in `client`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload

import msgspec

from mpdispatch.config import QueueConfig
from mpdispatch.dispatcher import Dispatcher
from mpdispatch.engine.batches.batch import Batch
from mpdispatch.engine.batches.block import BatchContext, block_of
from mpdispatch.engine.batches.bulk import enqueue_batch
from mpdispatch.engine.client import JobClient
from mpdispatch.engine.crons.keywords import CronKeywords
from mpdispatch.engine.definition import JobHandle, as_handle
from mpdispatch.engine.enqueueing import BoundJob, EngineOptions, Enqueueable, EnqueuesByName, EnqueuesJobs
from mpdispatch.engine.maps.call import MapsItems
from mpdispatch.engine.new_job import new_job
from mpdispatch.engine.options import PLAIN, EnqueueKeywords, EnqueueOptions, JobKeywords, documented
from mpdispatch.engine.parents import jobs_at_once
from mpdispatch.engine.settings import EngineSettings
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.events.publish import Hooks
from mpdispatch.execution.catalog import LiveCatalog
from mpdispatch.execution.findable import refuse_hidden
from mpdispatch.execution.middleware import Middleware, default_timeout_s
from mpdispatch.execution.process_context import refuse_in_handler, refuse_while_importing
from mpdispatch.execution.telemetry import Telemetry
from mpdispatch.handlers.description import AppDescription, describe
from mpdispatch.handlers.registry import JobDefinition, Registry
from mpdispatch.hooks import Extension
from mpdispatch.model import DeclaredCrons, Enqueued, Job, NewBatch, NewJob
from mpdispatch.policy.backoff import BackoffSpec
from mpdispatch.policy.names import shown
from mpdispatch.store import open_store

if TYPE_CHECKING:
    from mpdispatch.engine.crons.declarations import CronDeclarations
    from mpdispatch.engine.crons.entries import EngineCrons
    from mpdispatch.handlers.file_crons import FileCrons

_NO_CRONS = (DeclaredCrons(origin="code"),)
P = ParamSpec("P")
R = TypeVar("R")


class Engine(JobClient, EnqueuesByName, MapsItems):
    """Handlers by name, and their jobs in a dispatcher's store. Made by `Engine.build` or `Engine.open`.

    Making one does no I/O. Safe from any thread, and after a fork.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: EngineSettings,
        tracer_provider: Any = None,
        meter_provider: Any = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.registry = Registry()
        self.backoff, self.queue_configs = settings.backoff, settings.queue_configs
        self.middleware = settings.middleware
        self.telemetry = Telemetry(tracer_provider, meter_provider, self.middleware)
        self.hooks = Hooks(settings.extensions, self.telemetry.metrics, dispatcher.logger.getChild("hooks"))
        super().__init__(lambda: dispatcher.store, self.hooks)
        self._default_timeout_s = default_timeout_s(self.middleware)
        self.catalog = LiveCatalog(self.registry, self.backoff)
        self.max_payload_bytes = dispatcher.config.max_payload_bytes
        self._declared: CronDeclarations | None = None
        self.file_crons: FileCrons | None = None
        """The cron entries of the app's own configuration file."""
        dispatcher.adopt(self)

    @classmethod
    def build(
        cls,
        dispatcher: Dispatcher,
        *,
        backoff: BackoffSpec | None = None,
        queue_configs: Iterable[QueueConfig | Mapping[str, Any]] = (),
        middleware: Iterable[Middleware] = (),
        extensions: Iterable[Extension] = (),
        tracer_provider: Any = None,
        meter_provider: Any = None,
    ) -> Self:
        """An engine for this dispatcher.

        `backoff` applies to jobs that name none (default: full jitter, base 1 s, at most 60 s);
        `queue_configs` limit queues; a mapping stands for a QueueConfig. `middleware` runs around every handler, in
        the worker, the first outermost; `extensions` hear what happens to jobs (see `mpdispatch.hooks`).
        `tracer_provider` and `meter_provider` are OpenTelemetry's; None: the global ones, if the app has set any.

        Raises ConfigError: names everything wrong with the arguments.
        """
        if not isinstance(dispatcher, Dispatcher):
            text = f"must be a Dispatcher, not {shown(dispatcher)}; Engine.open('jobs.db') makes engine and dispatcher"
            raise ConfigError([Fault("dispatcher", text)])
        settings = EngineSettings(
            backoff=backoff, queue_configs=queue_configs, middleware=middleware, extensions=extensions
        )
        return cls(dispatcher, settings, tracer_provider, meter_provider)

    @classmethod
    def open(cls, location: str | os.PathLike[str], **config: Any) -> Self:
        """The smallest program's engine: a store by path or URL, and any Config field as a keyword.

        Raises:
            ConfigError: names everything wrong with the configuration.
            UsageError: the location is of a kind there is no store for.
        """
        return cls.build(Dispatcher(store=open_store(location), **config))

    def __repr__(self) -> str:
        return f"<Engine on {self.store.display}: {', '.join(sorted(self.registry.names())) or 'no handlers'}>"

    # ---------------------------------------------------------------- handlers

    @overload
    def job(self, name: Callable[P, R], /) -> JobHandle[P, R]: ...
    @overload
    def job(
        self, name: str | None = None, **options: Unpack[JobKeywords]
    ) -> Callable[[Callable[P, R]], JobHandle[P, R]]: ...
    @documented(JobKeywords)
    def job(self, name: Any = None, **options: Any) -> Any:
        """Make the function a handler of this engine.

        Used as `@engine.job` or as `@engine.job(name=None, *, queue="default", priority=0, max_retries=3,
        timeout=None, expires=None, backoff=None)`.

        name: what the job is called in the store; the function's own name unless given.

        `options(...)` overrides these for single jobs.

        Raises:
            RegistrationError: the function cannot be a handler, or an option is not allowed.
            DuplicateJobError: another handler has this name.
        """
        if callable(name):
            return self._made(None, name, options)
        return lambda function: self._made(name, function, options)

    def _made(self, name: str | None, function: Callable[P, R], options: Mapping[str, Any]) -> JobHandle[P, R]:
        if self._declared is not None and (made := self._declared.made_alone(function)) is not None:
            # `@engine.cron` stands below, and has made a handler of the function; these are the options of it.
            return self._declared.replace(made, as_handle(name, made.definition.function, options))
        return self.register(as_handle(name, function, options))

    @documented(CronKeywords)
    def cron(
        self,
        schedule: str,
        *,
        name: str | None = None,
        args: Mapping[str, Any] | None = None,
        **options: Unpack[CronKeywords],
    ) -> Callable[[Callable[P, R]], JobHandle[P, R]]:
        """Declare a cron entry for the handler below or above: `@engine.cron("0 3 * * *", tz="Europe/Berlin")`.

        Alone it makes the function a handler, too. A supervisor of this engine makes the entry when it starts; once the
        code declares it no more, it is an orphan and fires no more.

        schedule: five fields, or six with the second first, `@hourly … @yearly`, `@every 90s`,
        `@once 2026-12-01T03:00`, `@startup` or `@reboot`.
        name: of the entry; the job's own unless given. Several entries of one handler need names.
        args: the arguments of its jobs.

        Raises RegistrationError: names everything wrong with it.
        """
        declare = self._cron_declarations().declare
        return lambda function: declare(function, schedule, options, name=name, args=args)

    def _cron_declarations(self) -> CronDeclarations:
        if self._declared is None:
            from mpdispatch.engine.crons.declarations import CronDeclarations  # it reads schedules

            self._declared = CronDeclarations(self)
        return self._declared

    @property
    def crons(self) -> EngineCrons:
        """The cron entries: add, register, list, get, enable, disable, delete, trigger, preview, backfill …"""
        from mpdispatch.engine.crons.entries import EngineCrons

        return EngineCrons(self, self._tell_fired)

    def new_job(
        self, job: str | JobHandle[..., Any], args: Mapping[str, Any], options: EnqueueOptions
    ) -> NewJob:
        """The job that an enqueue with these arguments would store. Raises UnknownJobError, PayloadError, UsageError."""
        definition = self.registry.get(job.name if isinstance(job, JobHandle) else job)
        payload = definition.signature.encode((), args, max_bytes=self.max_payload_bytes)
        return self.new_job_as(definition, options, payload)

    def register(self, handler: Callable[P, R]) -> JobHandle[P, R]:
        """Take in a stand-alone `@job` (or a plain function, with every option at its default).

        Works after the dispatcher was started too; the function must then be importable by module and name.

        Raises:
            RegistrationError: the function cannot be a handler, or is nested in another one where no worker finds it.
            DuplicateJobError: another handler has this name.
        """
        handle = handler if isinstance(handler, JobHandle) else as_handle(None, handler, {})
        refuse_hidden(self, handle.definition)
        self.catalog.refuse_absent(handle.definition)
        self.registry.add(handle.definition)
        handle.bind(self)
        return handle

    # ---------------------------------------------------------------- enqueueing

    def _named(self, name: str) -> BoundJob[..., Any]:
        return BoundJob(self, self.registry.get(name), PLAIN)

    @documented(EnqueueKeywords)
    def options(self, **options: Unpack[EnqueueKeywords]) -> EngineOptions:
        """This engine with options for its next enqueues: `engine.options(delay=60).enqueue("render", "a.pdf")`.

        An option that is not given (or None, except `timeout` and `expires`) is that of the handler.

        Raises UsageError: names every option that is unknown or not allowed.
        """
        return EngineOptions(self, EnqueueOptions.read(options))

    def enqueue_as(
        self,
        definition: JobDefinition,
        options: EnqueueOptions,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Job:
        refuse_while_importing("enqueue")
        payload = definition.signature.encode(args, kwargs, max_bytes=self.max_payload_bytes)
        wanted = self.new_job_as(definition, options, payload)
        is_synced = True
        if (block := block_of(self)) is not None:
            wanted, is_synced = block.member(wanted, options)
        if not self.telemetry.is_tracing:
            return self.add_job(wanted, connection=options.connection, is_synced=is_synced)
        with self._traced(wanted) as traced:
            return self.add_job(traced, connection=options.connection, is_synced=is_synced)

    def enqueue_many_as(
        self, definition: JobDefinition, options: EnqueueOptions, items: Iterable[Mapping[str, Any]]
    ) -> Batch:
        refuse_while_importing("enqueue_many")
        if isinstance(items, (Mapping, str, bytes)) or not isinstance(items, Iterable):
            text = f"must be an iterable of mappings, one per job, not {type(items).__name__}"
            raise UsageError(f"enqueue_many: items: {text}")
        for field in ("idempotency_key", "connection"):
            if getattr(options, field) is not None:
                raise UsageError(f"{field}: enqueue_many takes none; enqueue the jobs one by one")
        into: NewBatch | int = NewBatch(name=definition.name)
        name = definition.name
        if (block := block_of(self)) is not None:
            block.refuse_other_store()
            into, name = block.batch.id, block.batch.name
        with self._traced(self.new_job_as(definition, options, b"{}")) as template:
            add_jobs = functools.partial(self.add_jobs, template)
            batch_id, ids = enqueue_batch(
                add_jobs,
                definition.signature,
                items,
                batch=into,
                max_bytes=self.max_payload_bytes,
                at_most=None if options.after is None else jobs_at_once(options.after.ids),
            )
        return Batch(self, batch_id, name, ids)

    def new_job_as(self, definition: JobDefinition, options: EnqueueOptions, payload: bytes) -> NewJob:
        """The job that an enqueue with this payload would store. Raises UsageError."""
        if options.after is not None:
            options.after.refuse_other_store(self.store)
        return new_job(definition.plain_job, options, payload, self._default_timeout_s)

    def target_of(self, field: str, job: Enqueueable) -> tuple[JobDefinition, EnqueueOptions]:
        """The handler and the options that are meant. Raises UsageError, which names the field; UnknownJobError."""
        if isinstance(job, EnqueuesJobs):
            return job.target_in(self, field)
        if not isinstance(job, str):
            raise UsageError(f"{field}: must be a handler or the name of one, not {shown(job)}")
        return self.registry.get(job), PLAIN

    def batch(
        self,
        name: str,
        *,
        on_success: Enqueueable | None = None,
        on_failure: Enqueueable | None = None,
        on_end: Enqueueable | None = None,
        max_fails: float | None = None,
        open: bool = False,  # noqa: A002 - what people call it
    ) -> BatchContext:
        """A batch of all jobs that are enqueued inside: `with engine.batch("thumbnails", on_success=report) as batch:`.

        Every enqueue into this engine inside the `with` (or `async with`) makes a member, of the innermost batch if they
        are nested. Members may start at once; they are on disk at the latest at the end of the `with`, which also closes
        the batch. An exception leaves it open, and its note says what to do then. A thread that is started inside takes
        no part; it may call `batch.add(…)`.

        Args:
            name: what people call it.
            on_success: enqueued, once, when all members have completed: a handler, its name, or one with options. It is
                given the id of the batch as its argument `batch`.
            on_failure: likewise, when all members have ended and some failed or were cancelled, or the batch was.
            on_end: likewise, when all members have ended.
            max_fails: after more failed members than this the rest is cancelled; a float between 0 and 1 is a share of
                all members, and counts once the batch is closed.
            open: leave it open at the end of the `with`: it takes more members (`batch.add`) until `batch.close()`.

        Raises UsageError: names the argument that is not allowed; nothing is stored.
        """
        from mpdispatch.engine.batches.arguments import checked_batch

        new = checked_batch(self, name, on_success, on_failure, on_end, max_fails)
        if not isinstance(open, bool):
            raise UsageError(f"open: must be True or False, not {shown(open)}")
        return BatchContext(self, new, stays_open=open)

    def add_alike(
        self,
        definition: JobDefinition,
        options: EnqueueOptions,
        payloads: Sequence[bytes],
        batch: NewBatch | int,
        *,
        closes: bool,
    ) -> Enqueued:
        """Store one job per payload as members of this batch, in one transaction; `closes`: they are the last ones."""
        with self._traced(self.new_job_as(definition, options, b"{}")) as template:
            return self.add_jobs(template, payloads, batch, closes=closes)

    @contextmanager
    def _traced(self, job: NewJob) -> Iterator[NewJob]:
        """The job, inside a span that it carries on if this engine traces."""
        if not self.telemetry.is_tracing:
            yield job
            return
        with self.telemetry.enqueueing(job.name, job.queue) as context:
            yield msgspec.structs.replace(job, trace_context=context)

    def _returned_by(self, job: Job) -> Any:
        definition = self.registry.find(job.name)
        return job.result if definition is None else definition.returns.read(job.result)

    # ---------------------------------------------------------------- for workers and supervisors

    def describe(self) -> AppDescription:
        """The description of the app, for a supervisor that does not import it."""
        return describe(
            self.registry,
            store=self.dispatcher.store,
            config=self.dispatcher.config,
            queue_configs=self.queue_configs,
            backoff=self.backoff,
            origins=self.dispatcher.origins,
            default_timeout_s=self._default_timeout_s,
            crons=self.declared_crons(),
            hooks=self.hooks.wanted(),
            is_traced=self.telemetry.is_tracing,
        )

    def declared_crons(self) -> tuple[DeclaredCrons, ...]:
        """The cron entries of the code and of the app's own file. The same tuple until there are others.

        Raises ConfigError: the file's arguments do not fit a handler, or a program is not there.
        """
        if self._declared is None and self.file_crons is None:
            return _NO_CRONS
        return self._cron_declarations().all(self.file_crons)

    def use_store(self, location: str) -> None:
        """From now on, use the store at `location`: enqueue into it, and let the dispatcher run its jobs.

        A worker calls it before its first job, if its supervisor uses another store than the app's own.

        Raises:
            UsageError: there is no store for such a location, or this process supervises the present one.
            WrongProcessError: a handler calls it, or a hook in its supervisor's process for hooks.
        """
        refuse_in_handler("use_store")
        self.dispatcher.use_store(open_store(location))
