"""The configuration, and the only home of its defaults. Pure, but for `Config.slots`.

explicit argument ▸ environment (MPDISPATCH_<FIELD>) ▸ file ▸ default ──▶ Config, or every fault at once
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from mpdispatch.cpus import usable_cpus
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.policy import settings
from mpdispatch.policy.names import MAX_NAME_CHARS, shown
from mpdispatch.policy.pools import MOST_OF_CLUSTER, PROCESSES, is_cluster, read_pool
from mpdispatch.policy.rate import MAX_BURST, MAX_RATE, MIN_RATE
from mpdispatch.policy.sources import DEFAULT_ORIGIN, Settings, Source, arguments, collect, environment, section

ENV_PREFIX = "MPDISPATCH_"
MIB = 1 << 20
DAY_S = 86_400.0


def setting(default: Any, read: settings.Reader) -> Any:
    """A field of a class of settings: its default, and how a given value is read."""
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a dispatcher works. Durations are float seconds, or a timedelta or text ("30s") when given.

    Each is also an environment variable (`MPDISPATCH_CONCURRENCY`) and a key of a config file.

    Args:
        concurrency: most jobs at once = most worker processes (10), started on demand; "auto": as many as there are
            usable CPUs (affinity and cgroup quota). On a cluster it is "auto" unless given: as many as it has workers.
        queues: queues to poll (["default"]).
        pool: where handlers run: "processes" (default): worker processes of this machine; "dask://HOST:8786": the
            workers of a dask.distributed cluster, by its scheduler (`pip install 'mpdispatch[dask]'`). What cannot be
            promised there, `mpdispatch doctor` says.
        poll_interval: how often to look without a wake-up (1 s). An enqueue on the same host is seen at once.
        shutdown_timeout: how long a stop waits for running jobs (30 s); then they are cancelled, and go back.
        heartbeat_interval: how often a supervisor renews the lease of its jobs (10 s).
        stale_job_threshold: a lease not renewed for this long is over, and others take its jobs (30 s); more than
            `heartbeat_interval`. A dead supervisor on the same host is noticed at once, without this wait.
        kill_grace: from a job's timeout, which is raised in its handler, to SIGKILL (0.3 s).
        cancel_grace: the same from a cancel, or from the end of `shutdown_timeout` (5 s).
        max_payload_bytes: largest JSON of a job's arguments (1 MiB; at most 64 MiB).
        max_result_bytes: largest JSON of a job's result (1 MiB; at most 64 MiB).
        child_policy: what happens to processes that a job started and left: "kill" (default) or "leave": they outlive
            the job, its worker and the supervisor's end. Always ended are those of a job whose worker is killed or
            crashes, and all that a supervisor had started which died: what runs again must not run twice.
        prefetch_window: how much work, by measured run times, a worker may hold beyond the job that it runs (0.01 s),
            so that short jobs need not wait for the supervisor. Jobs that a busy worker has not begun are recalled
            when another one is free. 0: none.
        max_prefetch: most jobs that a worker may hold (400).
        max_jobs_per_worker: a worker is replaced after this many jobs (None: never), against leaks.
        boot_timeout: how long a worker may take to import the app (60 s); then it is killed, and counts
            as one that did not start. `mpdispatch supervise` reads the settings of an app by its first import, so for
            that import only the environment and the file count.
        start_method: how workers start: "forkserver" (default): as forks of a process that has imported the app, which
            takes milliseconds and shares memory; only under `mpdispatch supervise` on Linux, and if the import leaves
            no thread and no connection. "spawn": each as a new interpreter that imports the app, as everywhere else.
        max_worker_rss: a worker is replaced after a job if its peak memory exceeds this many bytes (None: never).
        durability: what `enqueue` waits for: "full" (default): the disk, so the job survives power loss; "process": it
            survives any crash of processes, and power loss may cost the last moments. For stores that were not made
            with a `durability` of their own.
        retention: jobs that completed or were cancelled longer ago than this are deleted (7 days; 0 or None: never),
            with their attempts, output and results, and so are old slots of cron entries.
        retention_failed: failed jobs whose dead letters were replayed or purged longer ago than this are deleted (30
            days; 0 or None: never). While its dead letter is open, a job is kept.
        retention_limit: most ended jobs kept, the last ones (0 or None: any number). Failed jobs whose dead letters are
            open are not counted.

    Raises ConfigError: something is wrong; its `faults` are everything that is, each by its key.
    """

    concurrency: int | Literal["auto"] = setting(10, settings.whole(1, 10_000, words=["auto"]))
    queues: tuple[str, ...] = setting(("default",), settings.names("queue name"))
    pool: str = setting(PROCESSES, read_pool)
    poll_interval: float = setting(1.0, settings.duration(low=0.001))
    shutdown_timeout: float = setting(30.0, settings.duration())
    heartbeat_interval: float = setting(10.0, settings.duration(low=0.01))
    stale_job_threshold: float = setting(30.0, settings.duration(low=0.05))
    kill_grace: float = setting(0.3, settings.duration())
    cancel_grace: float = setting(5.0, settings.duration())
    max_payload_bytes: int = setting(MIB, settings.whole(1, 64 * MIB))
    max_result_bytes: int = setting(MIB, settings.whole(1, 64 * MIB))
    child_policy: Literal["kill", "leave"] = setting("kill", settings.choice("kill", "leave"))
    prefetch_window: float = setting(0.01, settings.duration())
    max_prefetch: int = setting(400, settings.whole(1, 500))
    max_jobs_per_worker: int | None = setting(None, settings.optional(settings.whole(1, 10**12)))
    boot_timeout: float = setting(60.0, settings.duration(low=0.1))
    start_method: Literal["forkserver", "spawn"] = setting("forkserver", settings.choice("forkserver", "spawn"))
    max_worker_rss: int | None = setting(None, settings.optional(settings.whole(MIB, 1 << 50)))
    durability: Literal["full", "process"] = setting("full", settings.choice("full", "process"))
    retention: float | None = setting(7 * DAY_S, settings.optional(settings.duration()))
    retention_failed: float | None = setting(30 * DAY_S, settings.optional(settings.duration()))
    retention_limit: int | None = setting(None, settings.optional(settings.whole(0, 10**12)))

    if TYPE_CHECKING:  # what may be given is wider than what is kept

        def __init__(
            self,
            *,
            concurrency: int | Literal["auto"] = ...,
            queues: Sequence[str] | frozenset[str] | set[str] = ...,
            pool: str = ...,
            poll_interval: float | timedelta | str = ...,
            shutdown_timeout: float | timedelta | str = ...,
            heartbeat_interval: float | timedelta | str = ...,
            stale_job_threshold: float | timedelta | str = ...,
            kill_grace: float | timedelta | str = ...,
            cancel_grace: float | timedelta | str = ...,
            max_payload_bytes: int = ...,
            max_result_bytes: int = ...,
            child_policy: Literal["kill", "leave"] = ...,
            prefetch_window: float | timedelta | str = ...,
            max_prefetch: int = ...,
            max_jobs_per_worker: int | None = ...,
            boot_timeout: float | timedelta | str = ...,
            start_method: Literal["forkserver", "spawn"] = ...,
            max_worker_rss: int | None = ...,
            durability: Literal["full", "process"] = ...,
            retention: float | timedelta | str | None = ...,
            retention_failed: float | timedelta | str | None = ...,
            retention_limit: int | None = ...,
        ) -> None: ...
    else:

        def __init__(self, **given: object) -> None:
            found = read_settings([arguments(given)], Config)
            _settle(found)
            _fill(self, found)

    @classmethod
    def resolve(
        cls,
        explicit: Mapping[str, object],
        *,
        env: Mapping[str, str] | None = None,
        file: Mapping[str, object] | None = None,
        file_key: str = "file",
    ) -> Config:
        """The configuration from all its sources: explicit ▸ environment ▸ file ▸ default.

        `env` is the environment (None: none is looked at). Its variables are `MPDISPATCH_<FIELD>`: lists by
        comma, an empty one counts as not set; unknown ones are ignored, unless the name is a near miss.
        `file` is the section of the config file for these fields; `file_key` leads its keys in faults.

        Raises ConfigError: every fault of every source, also of values another source overrides.
        """
        return cls.resolve_with_sources(explicit, env=env, file=file, file_key=file_key)[0]

    @classmethod
    def resolve_with_sources(
        cls,
        explicit: Mapping[str, object],
        *,
        env: Mapping[str, str] | None = None,
        file: Mapping[str, object] | None = None,
        file_key: str = "file",
    ) -> tuple[Config, dict[str, str]]:
        """As `resolve`, and per field where its value came from.

        That is `argument`, the name of the variable, the key in the file (`file.queues`) or `default`.
        """
        known = [each.name for each in fields(cls)]
        sources = [
            arguments(explicit),
            environment(env or {}, ENV_PREFIX, known),
            section(file or {}, file_key),
        ]
        found = read_settings(sources, cls)
        return cls.of(found), found.origins

    @classmethod
    def of(cls, found: Settings) -> Config:
        """The configuration in these settings, which may hold others too. Raises ConfigError: every fault of all."""
        _settle(found)
        config = object.__new__(cls)
        _fill(config, found)
        return config

    @property
    def slots(self) -> int:
        """`concurrency` as a number: most jobs at once. "auto" reads affinity and cgroup quota each time; for a
        cluster it is a limit that few have workers for."""
        if self.concurrency != "auto":
            return self.concurrency
        return MOST_OF_CLUSTER if is_cluster(self.pool) else usable_cpus()


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Limits of one queue, over all supervisors of a store. Not given: no limit.

    Args:
        name: of the queue.
        max_concurrency: most jobs of this queue running at once.
        rate_limit: most starts per second on average; `mpdispatch.policy.rate.Rate` has the exact bound.
        rate_burst: most starts at once under a rate limit (1).

    Raises ConfigError: something is wrong; its `faults` are everything that is, each by its key.
    """

    name: str = field(metadata={"read": settings.name("queue name")})
    max_concurrency: int | None = setting(None, settings.optional(settings.whole(1, 1_000_000)))
    rate_limit: float | None = setting(None, settings.optional(settings.number(MIN_RATE, MAX_RATE)))
    rate_burst: int = setting(1, settings.whole(1, MAX_BURST))

    if not TYPE_CHECKING:  # type checkers have that of a dataclass

        def __init__(
            self, name=MISSING, max_concurrency=MISSING, rate_limit=MISSING, rate_burst=MISSING, **unknown
        ):
            limits = {"max_concurrency": max_concurrency, "rate_limit": rate_limit, "rate_burst": rate_burst}
            given = {"name": name, **limits, **unknown}
            given = {key: value for key, value in given.items() if value is not MISSING}
            # Say which of many queues is meant, if its name can be shown as a key.
            has_key = isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_NAME_CHARS
            source = section(given, name) if has_key else arguments(given)
            _fill(self, read_settings([source], QueueConfig))

    @classmethod
    def read_list(cls, value: object, is_text: bool) -> tuple[QueueConfig, ...]:
        """How a file's `queue_configs` is read: a list of mappings, each with a name.

        Raises ConfigError: the keys of its faults are paths below the list: `[0].rate_limit`.
        """
        if not isinstance(value, list | tuple):
            raise UsageError(f"must be a list such as [{{name: bulk, max_concurrency: 2}}], not {shown(value)}")
        configs: list[QueueConfig] = []
        faults: list[Fault] = []
        for index, item in enumerate(value):
            try:
                configs.append(cls._read_item(item, f"[{index}]"))
            except ConfigError as error:
                faults.extend(error.faults)
        counted = Counter(config.name for config in configs)
        repeated = sorted(name for name, count in counted.items() if count > 1)
        faults += [Fault("", f"the queue {name!r} is there twice") for name in repeated]
        if faults:
            raise ConfigError(faults)
        return tuple(configs)

    @classmethod
    def _read_item(cls, item: object, key: str) -> QueueConfig:
        if isinstance(item, cls):
            return item
        if not isinstance(item, Mapping):
            raise ConfigError([Fault(key, f"must be a mapping with a name, not {shown(item)}")])
        found = read_settings([section(item, key)], cls)
        if "name" not in item:
            found.faults[:] = [each for each in found.faults if each.key != "name"]
            found.faults.append(Fault(f"{key}.name", "is required"))
        config = object.__new__(cls)
        _fill(config, found)
        return config


def read_settings(sources: Sequence[Source], *classes: Any) -> Settings:
    """The settings of these classes, whose fields are made by `setting`, from their sources, strongest first."""
    known = [each for cls in classes for each in fields(cls)]
    defaults = {each.name: each.default for each in known if each.default is not MISSING}
    return collect({each.name: each.metadata["read"] for each in known}, defaults, sources)


def _fill(config: Config | QueueConfig, found: Settings) -> None:
    if found.faults:
        raise ConfigError(found.faults)
    for each in fields(config):
        object.__setattr__(config, each.name, found.values[each.name])  # the one moment before it is frozen


def _settle(found: Settings) -> None:
    """What one setting says about another."""
    if is_cluster(found.values.get("pool", PROCESSES)) and found.origins.get("concurrency") == DEFAULT_ORIGIN:
        found.values["concurrency"] = "auto"
    _check_lease(found)


def _check_lease(found: Settings) -> None:
    """A lease shorter than the heartbeat that renews it would be lost between two of them."""
    threshold, heartbeat = (found.values.get(name) for name in ("stale_job_threshold", "heartbeat_interval"))
    if threshold is None or heartbeat is None or threshold > heartbeat:
        return
    # Blame what was given: with both defaults this cannot be.
    key = found.keys.get("stale_job_threshold") or found.keys["heartbeat_interval"]
    found.faults.append(
        Fault(key, f"stale_job_threshold ({threshold:g} s) must exceed heartbeat_interval ({heartbeat:g} s)")
    )
