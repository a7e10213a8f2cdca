"""The Redis store as clients see it: what `contract.Store` promises."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

from mpdispatch.clock import Clock
from mpdispatch.errors import DeadLetterNotFoundError, JobNotFoundError, UsageError
from mpdispatch.model import (
    Attempt,
    DeadLetter,
    Enqueued,
    Failure,
    Finding,
    Job,
    JobState,
    NewBatch,
    NewJob,
    Output,
    Page,
    Parent,
    PeerSupervisor,
)
from mpdispatch.store.batches import BatchStore
from mpdispatch.store.crons import CronStore
from mpdispatch.store.filters import DeadLetterFilter, JobFilter, PruneFilter
from mpdispatch.store.optional import Wake
from mpdispatch.store.redis import arguments, letters, pruning, status
from mpdispatch.store.redis.link import Link, Reply
from mpdispatch.store.redis.location import Location
from mpdispatch.store.redis.outputs import by_place, outputs_of
from mpdispatch.store.redis.pages import page
from mpdispatch.store.redis.records import attempts_of, failure_of, job_of, letter_of
from mpdispatch.store.redis.supervisors import supervisors_of
from mpdispatch.store.redis.wakes import RedisWakes
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import Backup, Dependents, Durability, HeldJob, Pruned, QueueState, QueueStats

_AT_ONCE = 1000


class RedisStore:
    """Jobs on a Redis server (7 or newer) or a Valkey server.

    The constructor does no I/O: the first use connects. Enqueueing and `migrate` make the store; reading never does. The
    store may be used by any number of threads, before and after `os.fork()`.

    What an enqueued job survives is the server's matter: with `appendonly yes` and `appendfsync always` a power cut. The
    server should never drop keys (`maxmemory-policy noeviction`). `examine` says how it is set.

    Args:
        url: of the server, see `location`. `RedisStore.of` takes an app's own client.
        prefix: of all keys; None: that of the URL, else "mpdispatch".
        clock: decides when jobs are due and leases expire; None: the server's clock. For tests.
    """

    is_shared = True
    file: Path | None = None

    def __init__(self, url: str, *, prefix: str | None = None, clock: Clock | None = None) -> None:
        self._set_up(Link(Location.read(url, prefix), clock))

    @classmethod
    def of(cls, client: Any, *, prefix: str | None = None, clock: Clock | None = None) -> Self:
        """The store on the server of an app's client or pool of redis-py or valkey-py. It makes its own connections."""
        if isinstance(client, str):
            return cls(client, prefix=prefix, clock=clock)
        pool = getattr(client, "connection_pool", client)
        if not hasattr(pool, "connection_kwargs"):
            raise UsageError(
                f"client: must be a client or a URL of a Redis server, not a {type(client).__name__}"
            )
        given = dict(pool.connection_kwargs)
        location = Location.of_client(given, prefix, is_tls="SSL" in pool.connection_class.__name__)
        store = cls.__new__(cls)
        store._set_up(Link(location, clock, given))
        return store

    def _set_up(self, link: Link) -> None:
        self._link = link
        self.said_durability: Durability | None = None
        self._own_wake_ups = RedisWakes(link)
        self.wake_ups: Wake | None = self._own_wake_ups
        """Wakes supervisors and clients that wait. Its own are published by the server."""

    def __repr__(self) -> str:
        return f"RedisStore({self.display!r})"

    @property
    def location(self) -> str:
        return self._link.location.text

    @property
    def display(self) -> str:
        return self._link.display

    def prefer_durability(self, durability: Durability) -> Durability:
        """What survives what is set on the server: this is only kept."""
        self.said_durability = self.said_durability or durability
        return self.said_durability

    @property
    def crons(self) -> CronStore:
        from mpdispatch.store.redis.crons import RedisCrons

        return RedisCrons(self._link.read, self._link.write, self._tell)

    @property
    def batches(self) -> BatchStore:
        from mpdispatch.store.redis.batches import RedisBatches

        return RedisBatches(self._link, self._tell)

    transfer = None
    """Nothing converts its records to the rows that travel yet, see `store.tables`."""

    # -- opening --------------------------------------------------------------------------------

    def script(self) -> str:
        """The library of functions that other programs call, and in comments how they enqueue."""
        from mpdispatch.store.redis.library import script  # for people

        return script(self._link.location.prefix)

    def migrate(self) -> tuple[int, int]:
        return self._link.migrate()

    def check(self, *, create: bool = False) -> None:
        self._link.open(create=create)
        self._link.version()

    def close(self) -> None:
        if self.wake_ups is not None:
            self.wake_ups.close()

    def close_all(self) -> None:
        self.close()
        self._link.close()

    def supervisor_store(self) -> SupervisorStore:
        from mpdispatch.store.redis.supervisor_store import RedisSupervisorStore

        return RedisSupervisorStore(self._link, self._tell)

    # -- jobs -----------------------------------------------------------------------------------

    def enqueue(self, job: NewJob, *, connection: Any = None, is_synced: bool = True) -> Job:
        if connection is not None:
            raise UsageError("connection= joins a transaction of a SQL database; a Redis store has none")
        reply = self._link.write("enqueue", create=True, job=arguments.new_job(job))
        created: bool = reply.said["created"]
        made = self._job(reply, created=created, is_fresh=created and not job.after)
        self._tell(work=True, ends=bool(job.after))
        return made

    def sync(self) -> None:
        """Nothing to do: what is on disk when a call returns is set on the server."""

    def enqueue_many(
        self, jobs: Sequence[NewJob], *, batch: NewBatch | int | None = None, closes: bool = True
    ) -> Enqueued:
        if batch is None and not jobs:
            return Enqueued(None, [])
        if isinstance(batch, int):
            which: dict[str, Any] = {"batch_id": batch}
        else:
            which = {"batch": arguments.new_batch(batch or NewBatch(name=jobs[0].name))}
        reply = self._link.write(
            "enqueue_many", create=True, closes=closes, **which, **arguments.new_jobs(jobs)
        )
        self._tell(work=True, ends=True)
        said = reply.said
        if "first" in said:
            return Enqueued(said["batch"], range(said["first"], said["first"] + said["count"]))
        return Enqueued(said["batch"], said["ids"])

    def parents(self, job_id: int) -> list[Parent]:
        return self._parents(job_id, only_open=False)

    def awaited(self, job_id: int) -> list[Parent]:
        return self._parents(job_id, only_open=True)

    def _parents(self, job_id: int, *, only_open: bool) -> list[Parent]:
        _refuse_impossible(job_id)
        found = self._link.read("parents", id=job_id, only_open=only_open).said["parents"]
        return [Parent(parent_id, JobState(state) if state else None) for parent_id, state in found]

    def dependents(self, job_id: int) -> Dependents:
        _refuse_impossible(job_id)
        said = self._link.read("dependents", id=job_id).said
        return Dependents(said["waiting"], said["total"])

    def get(self, job_id: int) -> Job:
        _refuse_impossible(job_id)
        return self._job(self._link.read("get", id=job_id))

    def state_of(self, job_id: int) -> JobState:
        _refuse_impossible(job_id)
        return JobState(self._link.read("state_of", id=job_id).said["state"])

    def ended(self, job_ids: Collection[int]) -> dict[int, JobState | None]:
        found = dict[int, JobState | None]()
        for some in _portions(job_ids):
            states = self._link.states_of(some)
            found |= {each: state for each, state in states.items() if state is None or state.is_terminal}
        return found

    def attempts(self, job_id: int) -> list[Attempt]:
        _refuse_impossible(job_id)
        reply = self._link.read("attempts", id=job_id)
        texts = by_place(outputs_of(job_id, reply.said["outputs"]))
        return attempts_of(reply.records[0], reply.said["attempts"], texts)

    def outputs(self, job_id: int) -> list[Output]:
        _refuse_impossible(job_id)
        return outputs_of(job_id, self._link.read("outputs", id=job_id).said["outputs"])

    def list_jobs(self, where: JobFilter, *, limit: int, cursor: str | None) -> Page[Job]:
        terms = arguments.where_jobs(where)

        def step(before: int | None, most: int) -> tuple[list[Job], int | None]:
            reply = self._link.read("list_jobs", where=terms, before=before, limit=most)
            return self._jobs(reply), reply.said["before"] or None

        return page(step, limit=limit, cursor=cursor)

    def counts(self) -> dict[JobState, int]:
        counts = dict.fromkeys(JobState, 0)
        for each in self.queue_stats():
            for state, count in each.jobs.items():
                counts[JobState(state)] += count
        return counts

    def cancel(self, job_id: int) -> Job:
        _refuse_impossible(job_id)
        return self._changed("cancel", job_id, ends=True)

    def retry(self, job_id: int) -> Job:
        _refuse_impossible(job_id)
        return self._changed("retry", job_id)

    def replay(self, job_id: int) -> Job:
        _refuse_impossible(job_id, DeadLetterNotFoundError)
        return self._changed("replay", job_id)

    def _changed(self, call: str, job_id: int, *, ends: bool = False) -> Job:
        reply = self._link.write(call, id=job_id)
        self._tell(work=True, ends=ends)
        return self._job(reply, created=reply.said.get("created", True))

    def retry_many(self, job_ids: Sequence[int]) -> tuple[list[Job], dict[int, str]]:
        wanted = [each for each in dict.fromkeys(job_ids) if 0 < each <= arguments.MOST]
        reply = self._link.write("retry_many", ids=wanted)
        self._tell(work=True)
        return self._jobs(reply), {}

    # -- dead letters ---------------------------------------------------------------------------

    def dead_letter_count(self, queue: str | None = None) -> int:
        return letters.count(self._link, queue)

    def dead_letters(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[DeadLetter]:
        return page(letters.step(self._link, where, letter_of), limit=limit, cursor=cursor)

    def failures(self, where: DeadLetterFilter, *, limit: int, cursor: str | None) -> Page[Failure]:
        return page(letters.step(self._link, where, failure_of), limit=limit, cursor=cursor)

    def dead_letter(self, job_id: int) -> DeadLetter:
        _refuse_impossible(job_id, DeadLetterNotFoundError)
        reply = self._link.read("letter", id=job_id)
        return letter_of(reply.records[0], reply.extra_at(0))

    def purge_dead_letters(self, where: DeadLetterFilter) -> int:
        return letters.purge(self._link, where)

    # -- the whole ------------------------------------------------------------------------------

    def queue_stats(self) -> list[QueueStats]:
        found = self._link.read("queue_stats").said["queues"]
        states = [each.value for each in status.STATES]
        return [
            QueueStats(name=name, is_paused=is_paused, jobs=dict(zip(states, counts, strict=True)))
            for name, is_paused, counts in found
        ]

    def set_paused(self, queue: str, paused: bool) -> None:
        self._link.write("set_paused", queue=queue, paused=paused)
        if not paused:
            self._tell(work=True)

    def prune(self, where: PruneFilter, *, dry_run: bool = False) -> Pruned:
        by_state = pruning.by_filter(self._link, where, dry_run=dry_run)
        return Pruned(by_state, letters.open_failed(self._link, where))

    def compact(self) -> tuple[int, int]:
        raise UsageError(f"{self.display}: there is no file to compact; the server sees to its memory itself")

    def backup(self, destination: str | os.PathLike[str]) -> Backup:
        raise UsageError(f"{self.display}: there is no file to copy; the server makes its own backups (BGSAVE)")

    def supervisors(self) -> list[PeerSupervisor]:
        return supervisors_of(self._link.read("supervisors").said["all"])

    def held_by(self, owner: int) -> list[HeldJob]:
        return [
            HeldJob(each.id, each.starts, each.name) for each in self._link.read("jobs_of", owner=owner).records
        ]

    def parked(self) -> dict[str, int]:
        said = self._link.read("parked").said
        return status.held(said["parked"], said["waiting"])

    def ahead(self, job_id: int) -> int:
        if not 0 < job_id <= arguments.MOST:
            return 0
        return min(int(self._link.read("ahead", id=job_id).said["ahead"]), status.COUNT_AT_MOST)

    def faults(self, job_id: int) -> list[str]:
        """None: only the Lua library writes records."""
        return []

    def queue_state(self, queue: str) -> QueueState:
        said = self._link.read("queue_state", queue=queue).said
        return QueueState(said["paused"], said["running"], said["bucket"] or None, said["now"])

    def examine(self) -> list[Finding]:
        from mpdispatch.store.redis import health

        return health.of_server(self._link)

    def wake(self) -> None:
        if self.wake_ups is not None:
            self.wake_ups.notify()

    def _tell(self, *, work: bool = False, ends: bool = False) -> None:
        """Wake who may wait, if the server has not done so within the call."""
        wake_ups = self.wake_ups
        if wake_ups is None or wake_ups is self._own_wake_ups:
            return
        if work:
            wake_ups.notify()
        if ends:
            wake_ups.notify_of_ends()

    # -- replies --------------------------------------------------------------------------------

    @staticmethod
    def _job(reply: Reply, *, created: bool = True, is_fresh: bool = False) -> Job:
        """`is_fresh`: nobody has looked whether its queue is paused."""
        found = reply.extra_at(0)
        if is_fresh and found.is_paused:
            from msgspec.structs import replace

            found = replace(found, is_paused=False)
        return job_of(reply.records[0], found, created=created)

    @staticmethod
    def _jobs(reply: Reply) -> list[Job]:
        return [job_of(each, reply.extra_at(place)) for place, each in enumerate(reply.records)]


def _portions(job_ids: Collection[int]) -> list[list[int]]:
    ids = list(job_ids)
    return [ids[at : at + _AT_ONCE] for at in range(0, len(ids), _AT_ONCE)]


def _refuse_impossible(job_id: int, error: type[JobNotFoundError] = JobNotFoundError) -> None:
    """Raise `error` for an id that no job can have."""
    if not 0 < job_id <= arguments.MOST:
        raise error(job_id)
