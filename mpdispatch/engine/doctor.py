"""Checks a store, this machine, and the supervisors of the store. Reads only."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.config import Config
from mpdispatch.cpus import usable_cpus
from mpdispatch.engine.supervisors import supervisors_of
from mpdispatch.host.processes import pid_namespace
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.host.start_journal import journal_path
from mpdispatch.ids import boot_id
from mpdispatch.model import Finding, JobState, Level, SupervisorStatus
from mpdispatch.model.json import moment_of, time_to_json
from mpdispatch.policy.pools import NOT_PROMISED, is_cluster
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import JobFilter

_FILES_PER_WORKER = 5
"""Descriptors of a supervisor for each worker: channel, its duplicate, death pipe, pidfd, and one temporary."""
_FILES_OWN = 64
_CLOCK_SLACK_US = 5 * SECOND_US


def checkup(store: Store, config: Config, *, now: Instant) -> list[Finding]:
    """The finding of each check; those about the store first."""
    supervisors = supervisors_of(store, now)
    return [
        *store.examine(),
        *_moved(store),
        _clock(store, supervisors, now),
        *_limits(config),
        *_pools(store, supervisors, config),
        *_supervisors(supervisors),
        *_side_folder(store, supervisors),
        *_waiting(store, supervisors),
        *_parked(store),
        *_dead_letters(store),
    ]


def _moved(store: Store) -> Iterator[Finding]:
    transfer = getattr(store, "transfer", None)  # a store of another package may have none
    if transfer is None:
        return
    found = transfer.standing()
    if found.outgoing is not None:
        remedy = f"use {found.outgoing.to}" if found.outgoing.is_done else "finish the move, or give it up"
        yield Finding(check="move", level=Level.WARNING, message=found.outgoing.detail, remedy=remedy)
    if found.incoming is not None and not found.incoming.is_done:
        yield Finding(
            check="move", level=Level.WARNING, message=found.incoming.detail, remedy="finish the move"
        )


def _clock(store: Store, supervisors: list[SupervisorStatus], now: Instant) -> Finding:
    newest = store.list_jobs(JobFilter(), limit=1, cursor=None).items
    moments = [each.heartbeat_at for each in supervisors] + [job.created_at for job in newest]
    latest = max(moments, default=None)
    if latest is not None and latest > moment_of(now.wall_us + _CLOCK_SLACK_US):
        return Finding(
            check="clock",
            level=Level.WARNING,
            message=f"the clock says {time_to_json(moment_of(now.wall_us))}, but the store was written to at "
            f"{time_to_json(latest)}: it was set back, or the clocks of several hosts differ",
            remedy="have the clock set by NTP; leases hold all the same, but run_at means another moment now",
        )
    return Finding(check="clock", level=Level.OK, message=f"{time_to_json(moment_of(now.wall_us))}")


def _pools(store: Store, supervisors: list[SupervisorStatus], config: Config) -> Iterator[Finding]:
    """Says what a cluster does not promise that runs jobs here, or is to."""
    used = {each.pool for each in supervisors if each.is_alive} | {config.pool}
    for pool in sorted(filter(is_cluster, used)):
        yield Finding(
            check="pool",
            level=Level.OK,
            message=f"jobs run on {pool}; starts are counted and outcomes recorded exactly once, as by worker processes",
        )
        for text in NOT_PROMISED:
            yield Finding(check="pool", level=Level.NOTE, message=f"not promised by a cluster: {text}")
        if store.file is not None:
            yield Finding(
                check="pool",
                level=Level.NOTE,
                message=f"the store is a file of this host: what handlers enqueue on another host of {pool} would go into"
                " a file there",
                remedy="have the dask workers on this host, or take a store of a server",
            )


def _limits(config: Config) -> Iterator[Finding]:
    if is_cluster(config.pool):
        return
    slots, cpus = config.slots, usable_cpus()
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_OWN + 2 * slots * _FILES_PER_WORKER
    if files != resource.RLIM_INFINITY and files < needed:
        yield Finding(
            check="limits",
            level=Level.WARNING,
            message=f"{files} open files are allowed here, {slots} workers may need {needed}",
            remedy=f"ulimit -n {needed} before `mpdispatch supervise` (systemd: LimitNOFILE={needed})",
        )
    else:
        yield Finding(check="limits", level=Level.OK, message=f"{files} open files for {slots} workers")
    text = f"concurrency {slots} on {cpus} usable CPU{'s' * (cpus != 1)}"
    if slots > 4 * cpus:
        yield Finding(
            check="concurrency",
            level=Level.NOTE,
            message=f"{text}: good for jobs that wait, too many for jobs that compute",
            remedy="-c auto for jobs that compute",
        )
    else:
        yield Finding(check="concurrency", level=Level.OK, message=text)
    if os.geteuid() == 0:
        yield Finding(
            check="user", level=Level.NOTE, message="you are root; jobs you supervise run as root too"
        )


def _supervisors(supervisors: list[SupervisorStatus]) -> Iterator[Finding]:
    gone = [each for each in supervisors if not each.is_alive]
    for each in gone:
        living = any(other.is_alive for other in supervisors)
        yield Finding(
            check="supervisors",
            level=Level.WARNING,
            message=f"supervisor {each.id} (pid {each.pid} on {each.host}) is {each.state}, last heard of at "
            f"{time_to_json(each.heartbeat_at)}, with {each.jobs} jobs claimed",
            remedy="another supervisor takes its jobs over within a second or so; look again"
            if living
            else "mpdispatch supervise APP: it takes its jobs over",
        )
    if not gone:
        count = len(supervisors)
        text = f"{count} running" if count else "none is running"
        yield Finding(check="supervisors", level=Level.OK, message=text)


def _side_folder(store: Store, supervisors: list[SupervisorStatus]) -> Iterator[Finding]:
    """Check that the files of running supervisors on this machine exist."""
    folder, here = runtime_folder(store), _here(store)
    for each in supervisors:
        path = journal_path(folder, each.id)
        if each.is_alive and each.id in here and not path.exists():
            what = path if folder.is_dir() else folder
            yield Finding(
                check="side folder",
                level=Level.ERROR,
                message=f"supervisor {each.id} (pid {each.pid}) is running, but {what} is gone: it can start no worker,"
                " and is not told of new jobs",
                remedy="it makes that anew with its next heartbeat; look again, restart it if this stays, and let"
                " nothing delete what lies beside the store",
            )


def _here(store: Store) -> set[int]:
    """The supervisors whose folder is ours: a container has its own, unless it lies beside the store's file."""
    namespace, boot = pid_namespace(), boot_id()
    return {
        each.id
        for each in store.supervisors()
        if each.boot_id == boot and (store.file is not None or each.pid_namespace == namespace)
    }


def _waiting(store: Store, supervisors: list[SupervisorStatus]) -> Iterator[Finding]:
    """Finds due jobs in queues that no supervisor polls, and paused queues."""
    polled = {queue for each in supervisors if each.is_alive for queue in each.queues}
    for queue in store.queue_stats():
        waiting = sum(queue.jobs.get(state, 0) for state in (JobState.PENDING, JobState.RETRYING))
        if queue.is_paused:
            yield Finding(
                check="queues",
                level=Level.NOTE,
                message=f"queue {queue.name!r} is paused; jobs waiting there: {waiting}",
                remedy=f"mpdispatch resume {queue.name}",
            )
        elif waiting and queue.name not in polled:
            yield Finding(
                check="queues",
                level=Level.WARNING,
                message=f"jobs wait in queue {queue.name!r}, which no running supervisor polls: {waiting}",
                remedy=f"mpdispatch supervise APP -q {queue.name}",
            )


def _parked(store: Store) -> Iterator[Finding]:
    for reason, count in store.parked().items():
        yield Finding(
            check="parked",
            level=Level.WARNING,
            message=f"{count} parked: {reason}",
            remedy="start a supervisor that can run them, or cancel them",
        )


def _dead_letters(store: Store) -> Iterator[Finding]:
    if count := store.dead_letter_count():
        yield Finding(
            check="dead letters",
            level=Level.NOTE,
            message=f"jobs that failed for good and were not replayed: {count}",
            remedy="mpdispatch dlq list; then replay or purge them",
        )
