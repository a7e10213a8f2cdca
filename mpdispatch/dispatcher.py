"""The dispatcher: a store, a configuration, and the supervisor it starts and stops."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self

from mpdispatch.config import Config, QueueConfig
from mpdispatch.errors import ConfigError, Fault, NoStoreError, UsageError, WrongProcessError
from mpdispatch.execution.app_reference import AppEngine, AppReference, find_reference
from mpdispatch.execution.catalog import Catalog
from mpdispatch.execution.middleware import default_timeout_s
from mpdispatch.execution.process_context import in_worker, refuse_while_importing
from mpdispatch.host.wake import bring_wake_ups
from mpdispatch.model import DeclaredCrons
from mpdispatch.policy.durations import duration_of
from mpdispatch.policy.names import shown
from mpdispatch.store.contract import Store

if TYPE_CHECKING:
    from mpdispatch.supervisor.shutdown import RunReport
    from mpdispatch.supervisor.thread import SupervisorThread


class SupervisedEngine(AppEngine, Protocol):
    """What the dispatcher needs from an engine."""

    @property
    def catalog(self) -> Catalog: ...

    @property
    def queue_configs(self) -> tuple[QueueConfig, ...]: ...

    def declared_crons(self) -> tuple[DeclaredCrons, ...]: ...


class Dispatcher:
    """A store with a configuration; supervises its jobs between `start` and `stop`, or in `run`.

    Give a whole Config as `config`, or its fields as keywords; fields not given come from the environment
    (`MPDISPATCH_<FIELD>`). Making a dispatcher does no I/O.

    Raises:
        NoStoreError: no store was given.
        ConfigError: names everything wrong with the configuration.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        logger: logging.Logger | None = None,
        config: Config | None = None,
        **fields: Any,
    ) -> None:
        if store is None:
            raise NoStoreError
        if not callable(getattr(store, "supervisor_store", None)):
            text = f"must be a store such as SQLiteStore('jobs.db') or open_store(...), not {shown(store)}"
            raise ConfigError([Fault("store", text)])
        bring_wake_ups(store)
        self._store = store
        self._has_moved = False
        self._holds = 0
        self.logger = logging.getLogger("mpdispatch") if logger is None else logger
        self.config, self.origins = _resolved(config, fields)
        # A whole Config does not show which of its values are defaults.
        self._says_durability = self.origins["durability"] != "default" and not (
            config and config.durability == "full"
        )
        if self._says_durability:
            wanted, found = self.config.durability, store.prefer_durability(self.config.durability)
            if found != wanted and self.origins["durability"] == "argument":
                text = f"is {wanted!r}, but the store was made with {found!r}"
                raise ConfigError([Fault("durability", text)])
        self._engines: list[SupervisedEngine] = []
        # Reentrant, because a signal handler may call `stop` while it interrupts `start`. Nothing waits holding it.
        self._lock = threading.RLock()
        self._thread: SupervisorThread | None = None
        self.is_unwanted: Callable[[], bool] = lambda: False
        """Whether the caller of `start` no longer wants it. Called once a `stop` can reach the start."""

    def __repr__(self) -> str:
        return f"<Dispatcher on {self.store.display}>"

    def adopt(self, engine: SupervisedEngine) -> None:
        """Run the handlers of this engine. `Engine.build` calls it."""
        self._engines.append(engine)

    # ---------------------------------------------------------------- its store

    @property
    def store(self) -> Store:
        """The store that its engines enqueue into, and whose jobs it supervises."""
        return self._store

    def use_store(self, store: Store) -> None:
        """Use this store from now on. Its own durability counts, else the configuration's.

        Raises UsageError: this dispatcher supervises its present store, or an extension waits to do so.
        """
        with self._lock:
            if self._holds:
                raise UsageError(
                    f"this dispatcher is at work on {self._store.display}, so it cannot use {store.display}; stop"
                    " it first"
                )
            if self._says_durability:
                store.prefer_durability(self.config.durability)
            bring_wake_ups(store)
            self._store, self._has_moved = store, True

    @contextmanager
    def on_store(self, store: Store) -> Iterator[None]:
        """Use this store inside the context, and afterwards the one that was used before. Raises as `use_store`."""
        before = self._store, self._has_moved
        self.use_store(store)
        try:
            yield
        finally:
            with self._lock:
                self._store, self._has_moved = before

    @contextmanager
    def hold_store(self) -> Iterator[None]:
        """Refuse `use_store` inside the context: this process supervises the store, or waits to do so."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1

    # ---------------------------------------------------------------- supervising

    def start(self) -> None:
        """Supervise on a thread of this process; workers are processes. Returns once jobs are being claimed.

        A `stop` during the start ends it at once; `start` then returns, and nothing is supervised.

        Raises:
            AppReferenceError: workers could not find the engine, because it is in no module.
            AppImportError: the app does not import in a worker.
            RegistrationError: workers cannot find a handler, for example one nested in a function.
            StoreError: the store cannot be opened.
            UsageError: the dispatcher is started already, or has no engine.
            WrongProcessError: this process is a worker.
        """
        reference = self._reference("start")
        from mpdispatch.supervisor import Plan, SupervisorThread  # imported only when it is needed

        thread = SupervisorThread(reference, Plan(**self._parts()), log=self.logger)
        with self._lock:
            if self._thread is not None:
                raise UsageError("this dispatcher is started already; stop() it first")
            self._thread = thread
            self._holds += 1
        try:
            if self.is_unwanted():
                self._forget(thread)
                thread.ask_to_stop()
            thread.start()
        except BaseException:
            self._forget(thread)
            raise

    def _forget(self, thread: SupervisorThread) -> None:
        with self._lock:
            if self._thread is thread:
                self._thread = None
                self._holds -= 1

    @property
    def is_supervising(self) -> bool:
        """Whether a supervisor started by `start` runs in this process."""
        thread = self._thread
        return thread is not None and thread.is_alive

    def stop(self, timeout: float | timedelta | str | None = None) -> None:
        """Claim no more jobs, let running jobs finish, and end. Returns after the end; no-op if not started.

        Call it from any thread or signal handler. In a handler that interrupted `start`, it does not wait;
        `start` returns after the end.

        Jobs not done after `timeout` seconds (default: `shutdown_timeout`) are cancelled, then killed; they
        run again later, and this run costs them no attempt.

        Raises DispatchError: the error that had ended the supervisor before, if any.
        """
        timeout_s = None if timeout is None else duration_of("timeout", timeout)
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            thread.stop(timeout_s)
        finally:
            with self._lock:
                self._holds -= 1

    def run(self, drain: bool = False) -> RunReport:
        """Supervise in the foreground until SIGTERM or SIGINT. Main thread only.

        `drain=True`: return when no job that it can run is pending, running or retrying in its queues. The
        report has `exit_code`, `failed` (jobs), `parked` (jobs it could not run, by reason: an unknown name,
        a paused queue), `scheduled` (jobs due later).

        Raises:
            As `start`.
        """
        reference = self._reference("run")
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("run() handles signals, so it needs the main thread; use start() and stop()")
        if self._thread is not None:
            raise UsageError("this dispatcher is started already; stop() it first")
        from mpdispatch.supervisor import Plan, run_foreground  # imported only when it is needed

        with self.hold_store():
            plan = Plan(**self._parts())
            return run_foreground(
                reference,
                lambda _: plan,
                log=self.logger,
                drain=drain,
                boot_timeout_s=plan.config.boot_timeout,
                pool=plan.config.pool,
            )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _engine(self) -> SupervisedEngine:
        if not self._engines:
            raise UsageError("this dispatcher has no engine, so nothing to run: Engine.build(dispatcher)")
        if len(self._engines) > 1:
            raise UsageError(
                "this dispatcher has several engines; give each its own dispatcher on the same store"
            )
        return self._engines[0]

    def _reference(self, call: str) -> AppReference:
        refuse_while_importing(call)
        if in_worker():
            raise WrongProcessError(
                f"{call}() was called in a handler; a worker runs jobs and supervises none (enqueue() works there)"
            )
        return find_reference(self._engine())

    def _parts(self) -> dict[str, Any]:
        """The fields of the supervisor's plan. This process knows them without a worker's help."""
        engine = self._engine()
        engine.declared_crons()  # raises what is wrong with them here
        return {
            "store": self._store,
            # The app imported in a worker may not know that `use_store` chose this store.
            "store_for_workers": self._store.location if self._has_moved else None,
            "config": self.config,
            "catalog": engine.catalog,
            "queue_configs": engine.queue_configs,
            "default_timeout_s": default_timeout_s(engine.middleware),
            "crons": engine.declared_crons,
            "hooks": (wanted := engine.hooks.wanted()),
            "notice_queue": engine.hooks.queue() if wanted else None,
            "is_traced": engine.telemetry.is_tracing,
        }


def _resolved(config: Config | None, fields: dict[str, Any]) -> tuple[Config, dict[str, str]]:
    if config is None:
        return Config.resolve_with_sources(fields, env=os.environ)
    if fields:
        both = ", ".join(sorted(fields))
        raise ConfigError([Fault("config", f"is given, so its fields cannot be given too: {both}")])
    if not isinstance(config, Config):
        raise ConfigError([Fault("config", f"must be a Config, not {shown(config)}")])
    return config, dict.fromkeys(Config.__dataclass_fields__, "argument")
