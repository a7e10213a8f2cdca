"""Bringing a supervisor up: workers first, then the store. Effects.

No job is claimed before a worker has imported the app: an app that does not import costs no attempt.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config, QueueConfig
from mpdispatch.errors import AppImportError, ConfigError, RegistrationError, StoreBusy, StoreFull
from mpdispatch.execution.app_reference import AppReference
from mpdispatch.execution.catalog import Catalog, DescribedCatalog, LiveCatalog
from mpdispatch.execution.file_cron_jobs import complete, known_of
from mpdispatch.handlers.description import AppDescription
from mpdispatch.handlers.file_crons import FileCrons
from mpdispatch.host.linux import become_subreaper, give_back_memory
from mpdispatch.model import DeclaredCrons
from mpdispatch.policy.pools import PROCESSES
from mpdispatch.policy.staffing import boot_backoff_s
from mpdispatch.pool.events import BootFault, Ready
from mpdispatch.pool.hook_process import HookProcess
from mpdispatch.store import open_store
from mpdispatch.store.contract import Store
from mpdispatch.supervisor.event_publisher import EventPublisher, LocalSink, ProcessSink
from mpdispatch.supervisor.loop import Supervisor
from mpdispatch.supervisor.plan import Plan
from mpdispatch.supervisor.room import RoomWaiter
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import RunReport
from mpdispatch.supervisor.slow_import import SlowImports
from mpdispatch.supervisor.wiring import Wiring

BOOT_TRIES = 3

_NAMES_SHOWN = 10


def _bring_up(
    runtime: Runtime,
    app: AppReference,
    boot_timeout_s: float,
    meanwhile: Callable[[], object] = lambda: None,
) -> AppDescription | None:
    """Start the first worker. Returns its description of the app, or None if a stop was requested meanwhile.

    `meanwhile` is called at least every half second.

    Raises:
        AppImportError: three workers in a row did not get through the import.
    """
    fault: BootFault | None = None
    slow_imports = SlowImports(runtime.pool, runtime.log, timeout_s=boot_timeout_s)
    runtime.pool.warm_up()
    for failures in range(1, BOOT_TRIES + 1):
        _wait_until_warm(runtime, meanwhile)
        if runtime.stop_signal.requests:
            return None
        runtime.pool.spawn()
        fault = None
        while fault is None:
            meanwhile()
            now = runtime.clock.now()
            slow_imports.run(now)
            due_us = slow_imports.next_due()
            wait_s = 0.5 if due_us is None else (due_us - now.boot_us) / SECOND_US
            events = runtime.selector.select(max(0.0, min(0.5, wait_s)))
            if runtime.stop_signal.requests:
                return None
            for event in runtime.pool.receive(events):
                if isinstance(event, Ready):
                    return event.app
                if isinstance(event, BootFault):
                    fault = event
        runtime.log.debug("the app does not import", extra={"attempt": failures, "reason": fault.reason})
        if failures < BOOT_TRIES:
            _pause(runtime, boot_backoff_s(failures))
    assert fault is not None  # the loop ran at least once, and goes on only after a fault
    raise AppImportError(str(app), fault.reason, fault.traceback)


def _pause(runtime: Runtime, pause_s: float) -> None:
    """Wait `pause_s`, or until a stop is requested."""
    until_s = time.monotonic() + pause_s
    while not runtime.stop_signal.requests and (left_s := until_s - time.monotonic()) > 0:
        runtime.idle(left_s)


def _wait_until_warm(runtime: Runtime, meanwhile: Callable[[], object]) -> None:
    """Wait for the zygote: a first worker forked from it is ready as soon as one started by exec.

    Or for a cluster to have a worker, for as long as that takes.
    """
    while runtime.pool.is_warming and not runtime.stop_signal.requests:
        meanwhile()
        runtime.idle(0.5)


def _learn(
    runtime: Runtime, app: AppReference, plan: Plan, supervisor: Supervisor, description: AppDescription | None
) -> AppDescription | None:
    """The first worker's description of the app; None: a stop was requested meanwhile.

    Until then the supervisor stays registered and takes over from dead peers. Without a description it leaves.

    Raises AppImportError; RegistrationError: this process has handlers that its workers do not have.
    """
    try:
        if description is None:
            description = _bring_up(runtime, app, plan.config.boot_timeout, supervisor.look_around)
        if description is not None and isinstance(plan.catalog, LiveCatalog):
            plan.catalog.learn(description.jobs)
    except (AppImportError, RegistrationError):
        supervisor.leave()
        raise
    if description is None:
        supervisor.leave()
    return description


def _warn_of_unpolled(log: logging.Logger, description: AppDescription, polled: tuple[str, ...]) -> None:
    """Warn of handlers whose own queue is not polled here: their jobs may stay pending."""
    queues = [
        f"{queue} ({'handler' if len(names) == 1 else 'handlers'}: {', '.join(names[:_NAMES_SHOWN])}"
        + (f" and {len(names) - _NAMES_SHOWN} more)" if len(names) > _NAMES_SHOWN else ")")
        for queue, names in description.unpolled(polled).items()
    ]
    if queues:
        log.warning(
            "handlers have queues that are not polled here: %s; poll them with queues=[...] or -q, if no other"
            " supervisor does",
            ", ".join(queues),
        )


def run(
    runtime: Runtime,
    app: AppReference,
    plan: Plan | Callable[[AppDescription], Plan],
    *,
    drain: bool = False,
    boot_timeout_s: float | None = None,
    on_start: Callable[[], object] = lambda: None,
) -> RunReport | None:
    """Supervise until the end. None: a stop was requested before there was a worker.

    With a Plan, the supervisor registers and rescues before there is a worker. With a function, the first
    worker must describe the app first, which may take `boot_timeout_s` (None: the default).
    """
    if runtime.stop_signal.requests:
        return None
    description: AppDescription | None = None
    if isinstance(plan, Plan):
        chosen = plan
    else:
        patience_s = Config().boot_timeout if boot_timeout_s is None else boot_timeout_s
        description = _bring_up(runtime, app, patience_s)
        if description is None:
            return None
        chosen = plan(description)
        if runtime.pool_name != chosen.config.pool:
            # Only its import has shown where the app wants to run.
            runtime.use_pool(chosen.config.pool)
            description = None
        runtime.pool.use(chosen.config.start_method)
        runtime.pool.warm_up()
    wait_for_room = RoomWaiter(runtime, on_start)
    try:
        wait_for_room(lambda: chosen.store.check(create=True))
    except StoreFull:
        return None  # a stop was requested meanwhile
    publisher = _publisher(runtime, app, chosen)
    supervisor: Supervisor | None = None
    try:
        supervisor = wait_for_room(
            lambda: Supervisor(Wiring(runtime, chosen, app=str(app), drain=drain, publisher=publisher))
        )
        wait_for_room.over()
        description = _learn(runtime, app, chosen, supervisor, description)
        if description is None:
            return supervisor.report
        _warn_of_unpolled(runtime.log, description, chosen.config.queues)
        on_start()
        if runtime.is_subreaper:  # a process of our own
            give_back_memory()
        return supervisor.run()
    except (StoreBusy, StoreFull):
        if supervisor is None and runtime.stop_signal.requests:
            return RunReport(exit_code=0)
        raise
    finally:
        _close(chosen.catalog, supervisor, publisher)


def _close(catalog: Catalog, supervisor: Supervisor | None, publisher: EventPublisher | None) -> None:
    if isinstance(catalog, LiveCatalog):
        catalog.learn(None)
    if supervisor is not None:
        supervisor.close()
    if publisher is not None:
        # After leaving the store: hooks may take 5 s, and no one waits for our jobs meanwhile.
        report = (supervisor and supervisor.report) or RunReport(exit_code=70)
        publisher.close(exit_code=report.exit_code, completed=report.completed, failed=report.failed)


def _publisher(runtime: Runtime, app: AppReference, plan: Plan) -> EventPublisher | None:
    if not plan.hooks:
        return None
    log = runtime.log.parent or runtime.log
    if plan.notice_queue is not None:
        return EventPublisher(LocalSink(plan.notice_queue), plan.hooks, runtime.clock)
    process = HookProcess(
        app,
        wanted=plan.hooks,
        store=plan.store_for_workers,
        token=runtime.token,
        helper_pids=runtime.pool.helper_pids,
        log=log.getChild("hooks"),
        log_level=log.getEffectiveLevel(),
    )
    return EventPublisher(ProcessSink(process, log.getChild("hooks")), plan.hooks, runtime.clock)


def run_foreground(
    app: AppReference,
    plan: Callable[[AppDescription], Plan],
    *,
    log: logging.Logger,
    drain: bool = False,
    boot_timeout_s: float | None = None,
    start_method: str = "spawn",
    owns_process: bool = False,
    pool: str = PROCESSES,
) -> RunReport:
    """Supervise in this thread until stopped by a signal, or drained. Main thread only.

    `plan` is called once, with the first worker's description of the app. Until then workers start by
    `start_method`, and an import may take `boot_timeout_s` (None: the default). `owns_process`: all children of
    this process are ours, so orphans may be adopted and killed. `pool`: where the first worker starts.

    Raises:
        AppImportError: the app does not import.
        PoolUnavailable: the cluster cannot be used.
        StoreError: the store cannot be opened.
    """
    if owns_process:
        become_subreaper()
    runtime = Runtime.assemble(app, log=log, is_subreaper=owns_process, pool=pool)
    try:
        runtime.pool.use(start_method)
        runtime.stop_signal.listen_to_signals()
        report = run(runtime, app, plan, drain=drain, boot_timeout_s=boot_timeout_s)
        return report or RunReport(exit_code=0)
    finally:
        runtime.close()


def supervise(
    app: AppReference,
    *,
    store: Store | None,
    config_overrides: Mapping[str, object],
    file_config: Mapping[str, object] | None,
    drain: bool,
    logger: logging.Logger,
    queue_configs: tuple[QueueConfig, ...] = (),
    file_crons: FileCrons | None = None,
    allow_commands: bool = False,
) -> RunReport:
    """What `mpdispatch supervise` runs: this process supervises an app that only its workers import.

    `store=None`: the app's own. Settings: `config_overrides` ▸ the app's ▸ environment ▸ file ▸ default.
    `queue_configs` and `file_crons` come from the file; the app's own configuration of a queue overrides its.
    `allow_commands`: run command jobs too; without it they are parked.

    Raises:
        AppImportError, ConfigError, StoreError.
    """

    def plan(description: AppDescription) -> Plan:
        of_app = {
            name: getattr(description.config, name)
            for name, origin in description.origins.items()
            if origin == "argument"
        }
        config, origins = Config.resolve_with_sources(
            {**of_app, **config_overrides}, env=os.environ, file=file_config
        )
        chosen = store or open_store(description.store)
        if origins["durability"] != "default" and (store is not None or description.durability is None):
            chosen.prefer_durability(config.durability)
        declared = _declared(description, file_crons, config)
        return Plan(
            store=chosen,
            config=config,
            catalog=DescribedCatalog(description, allow_commands=allow_commands),
            queue_configs=_merged(description.queue_configs, queue_configs),
            # Also the app's own store, if a file that the app has not read sets its durability.
            store_for_workers=None if chosen.location == description.store else chosen.location,
            default_timeout_s=description.default_timeout_s,
            crons=lambda: declared,
            hooks=description.hooks,
            is_traced=description.is_traced,
        )

    # The app's own settings are unknown before its first import.
    try:
        before = Config.resolve(config_overrides, env=os.environ, file=file_config)
    except ConfigError:
        before = Config()  # The app's settings may correct it; else it is refused after the import.
    return run_foreground(
        app,
        plan,
        log=logger,
        drain=drain,
        boot_timeout_s=before.boot_timeout,
        start_method=before.start_method,
        owns_process=True,
        pool=before.pool,
    )


def _declared(
    description: AppDescription, file_crons: FileCrons | None, config: Config
) -> tuple[DeclaredCrons, ...]:
    """The cron entries of the app and of the file. Raises ConfigError."""
    if file_crons is None:
        return description.crons
    of_file = complete(file_crons, known_of(description, config.max_payload_bytes))
    # The app may read the same file.
    return (*(each for each in description.crons if each.app != of_file.app), of_file)


def _merged(of_app: tuple[QueueConfig, ...], of_file: tuple[QueueConfig, ...]) -> tuple[QueueConfig, ...]:
    """One configuration per queue: the app's, else the file's."""
    return tuple({each.name: each for each in (*of_file, *of_app)}.values())
