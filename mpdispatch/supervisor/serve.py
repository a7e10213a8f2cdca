"""Bringing a supervisor up: workers first, then the store. Effects.

No job is claimed before a worker has imported the app: an app that does not import burns no attempt.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mpdispatch.config import Config, QueueConfig
from mpdispatch.errors import AppImportError, DispatchError, StoreBusy
from mpdispatch.execution.appref import AppReference
from mpdispatch.execution.describe import AppDescription
from mpdispatch.execution.rulebook import CommandRulebook, DescribedRulebook, Rulebook
from mpdispatch.policy.staffing import boot_backoff_s
from mpdispatch.pool.linux import become_subreaper
from mpdispatch.pool.pool import BootFault, Ready
from mpdispatch.store import open_store
from mpdispatch.store.base import Store
from mpdispatch.supervisor.crew import Crew
from mpdispatch.supervisor.loop import Supervisor
from mpdispatch.supervisor.shutdown import Ending
from mpdispatch.version import __version__

__all__ = ["Plan", "SupervisorThread", "run_foreground", "supervise"]

BOOT_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All a supervisor needs to know, once a worker has described the app."""

    store: Store
    config: Config
    rulebook: Rulebook
    queue_configs: tuple[QueueConfig, ...]
    store_for_workers: str | None = None
    """The store handlers enqueue into, if it is not the app's own."""


def _bring_up(
    crew: Crew, app: AppReference, meanwhile: Callable[[], object] = lambda: None
) -> AppDescription | None:
    """Start the first worker; its description of the app, or None if we were asked to stop meanwhile.

    `meanwhile` is called at least every half second.

    Raises:
        AppImportError: three workers in a row did not get through the import.
    """
    fault: BootFault | None = None
    crew.pool.spawner.warm_up()
    _wait_until_warm(crew)
    for failures in range(1, BOOT_TRIES + 1):
        crew.pool.spawn()
        fault = None
        while fault is None:
            meanwhile()
            events = crew.ears.listen(0.5)
            if crew.bell.rung:
                return None
            for event in crew.pool.hear(events):
                if isinstance(event, Ready):
                    return event.app
                if isinstance(event, BootFault):
                    fault = event
        crew.log.debug("the app does not import", extra={"attempt": failures, "reason": fault.reason})
        if failures < BOOT_TRIES:
            time.sleep(boot_backoff_s(failures))
    assert fault is not None  # the loop ran, and only a fault leaves it
    raise AppImportError(str(app), fault.reason, fault.traceback)


def _wait_until_warm(crew: Crew) -> None:
    """Give the zygote a moment: forked from it, even the first worker is up as soon as by exec."""
    while crew.pool.spawner.is_warming and not crew.bell.rung:
        for _ in crew.pool.hear(crew.ears.listen(0.5)):
            continue  # there is no worker yet that could have said anything


def _run(crew: Crew, app: AppReference, plan: Callable[[AppDescription], Plan], drain: bool) -> Ending:
    description = _bring_up(crew, app)
    if description is None:
        return Ending(exit_code=0)
    chosen = plan(description)
    try:
        supervisor = _supervisor(crew, app, chosen, drain)
    except StoreBusy:
        if crew.bell.rung:
            return Ending(exit_code=0)
        raise
    try:
        return supervisor.run()
    finally:
        supervisor.close()


def _supervisor(crew: Crew, app: AppReference, plan: Plan, drain: bool) -> Supervisor:
    plan.store.check(create=True)
    return Supervisor(
        crew,
        plan.store,
        config=plan.config,
        rulebook=plan.rulebook,
        queue_configs=plan.queue_configs,
        app=str(app),
        version=__version__,
        store_for_workers=plan.store_for_workers,
        drain=drain,
    )


def run_foreground(
    app: AppReference,
    plan: Callable[[AppDescription], Plan],
    *,
    log: logging.Logger,
    drain: bool = False,
    owns_process: bool = False,
) -> Ending:
    """Supervise in this thread until stopped by a signal, or drained. Main thread only.

    `plan` is called once, with what the first worker says of the app. `owns_process`: this process has no children
    but ours, so orphans may be gathered and ended.

    Raises:
        AppImportError: the app does not import.
        StoreError: the store cannot be opened.
    """
    if owns_process:
        become_subreaper()
    crew = Crew.assemble(app, log=log, is_subreaper=owns_process)
    try:
        crew.bell.listen_to_signals()
        return _run(crew, app, plan, drain)
    finally:
        crew.close()


def supervise(
    app: AppReference,
    *,
    store: Store | None,
    config_overrides: Mapping[str, object],
    file_config: Mapping[str, object] | None,
    drain: bool,
    logger: logging.Logger,
    queue_configs: tuple[QueueConfig, ...] = (),
    allow_commands: bool = False,
) -> Ending:
    """What `mpdispatch supervise` runs: this process supervises an app that only its workers import.

    `store=None`: the app's own. Settings: `config_overrides` ▸ what the app says ▸ environment ▸ file ▸ default.
    `queue_configs` are the file's; a queue the app itself configures is as the app says.
    `allow_commands`: command jobs are run too; without it they are parked.

    Raises:
        AppImportError, ConfigError, StoreError.
    """

    def plan(description: AppDescription) -> Plan:
        said = {
            name: getattr(description.config, name)
            for name, origin in description.origins.items()
            if origin == "argument"
        }
        config = Config.resolve({**said, **config_overrides}, env=os.environ, file=file_config)
        rulebook: Rulebook = DescribedRulebook(description)
        return Plan(
            store=store or open_store(description.store),
            config=config,
            rulebook=CommandRulebook(rulebook) if allow_commands else rulebook,
            queue_configs=_merged(description.queue_configs, queue_configs),
            store_for_workers=None if store is None else store.location,
        )

    return run_foreground(app, plan, log=logger, drain=drain, owns_process=True)


def _merged(of_app: tuple[QueueConfig, ...], of_file: tuple[QueueConfig, ...]) -> tuple[QueueConfig, ...]:
    """Every queue's configuration once: the app's, else the file's."""
    return tuple({each.name: each for each in (*of_file, *of_app)}.values())


class SupervisorThread:
    """A supervisor on a thread of the caller's process, which has the app: no signal handlers, no subreaper.

    What to supervise is known without asking a worker, so it registers first: a dead supervisor's jobs are taken
    over while the first worker still imports the app. None is claimed before that worker is there.
    """

    def __init__(self, app: AppReference, plan: Plan, *, log: logging.Logger) -> None:
        self._app, self._plan, self._log = app, plan, log
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._crew: Crew | None = None
        self.ending: Ending | None = None
        self._thread = threading.Thread(target=self._main, name="mpdispatch-supervisor", daemon=True)

    def start(self) -> None:
        """Returns once it supervises; raises what kept it from that."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self, timeout: float | None = None) -> Ending | None:
        """Drain and wait for the end. `timeout`: seconds running jobs may take (None: `shutdown_timeout`).

        Raises what ended the supervisor, if an error did.
        """
        if self._crew is not None and self._thread.is_alive():
            self._crew.bell.ring(timeout)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.ending

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _main(self) -> None:
        try:
            self._crew = Crew.assemble(self._app, log=self._log)
            try:
                self._supervise(self._crew)
            finally:
                self._crew.close()
        except BaseException as error:  # noqa: BLE001 - handed to the caller of start() or stop()
            self._error = error
            if self._started.is_set() or not isinstance(error, DispatchError):
                self._log.critical("the supervisor ended with an error", exc_info=error)
        finally:
            self._started.set()

    def _supervise(self, crew: Crew) -> None:
        supervisor = _supervisor(crew, self._app, self._plan, drain=False)
        try:
            try:
                description = _bring_up(crew, self._app, supervisor.look_around)
            except AppImportError:
                supervisor.sign_off()
                raise
            if description is None:
                supervisor.sign_off()
                return
            self._started.set()
            self.ending = supervisor.run()
        finally:
            supervisor.close()
