"""Explicit argument, environment, file, default: who wins, and how faults are named."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch.config import Config
from tests.test_config import DEFAULTS, attempt, faults_of


def test_explicit_beats_environment_beats_file_beats_default():
    config, origins = Config.resolve_with_sources(
        {"concurrency": 1},
        env={"MPDISPATCH_CONCURRENCY": "2", "MPDISPATCH_POLL_INTERVAL": "2s"},
        file={"concurrency": 3, "poll_interval": 3, "shutdown_timeout": "3m"},
    )
    assert (config.concurrency, config.poll_interval, config.shutdown_timeout) == (1, 2.0, 180.0)
    assert config.heartbeat_interval == 10.0
    assert origins["concurrency"] == "argument"
    assert origins["poll_interval"] == "MPDISPATCH_POLL_INTERVAL"
    assert origins["shutdown_timeout"] == "file.shutdown_timeout"
    assert origins["heartbeat_interval"] == "default"
    assert origins.keys() == DEFAULTS.keys()


def test_every_field_is_read_from_the_environment():
    env = {
        "MPDISPATCH_CONCURRENCY": "auto",
        "MPDISPATCH_QUEUES": "default, critical ,bulk",
        "MPDISPATCH_POOL": "dask+tls://[::1]:9000",
        "MPDISPATCH_POLL_INTERVAL": "250ms",
        "MPDISPATCH_SHUTDOWN_TIMEOUT": "2h",
        "MPDISPATCH_HEARTBEAT_INTERVAL": "0.5",
        "MPDISPATCH_STALE_JOB_THRESHOLD": "5m",
        "MPDISPATCH_KILL_GRACE": "1",
        "MPDISPATCH_CANCEL_GRACE": "2s",
        "MPDISPATCH_MAX_PAYLOAD_BYTES": "1000",
        "MPDISPATCH_MAX_RESULT_BYTES": "2000",
        "MPDISPATCH_CHILD_POLICY": "leave",
        "MPDISPATCH_PREFETCH_WINDOW": "0",
        "MPDISPATCH_MAX_PREFETCH": "8",
        "MPDISPATCH_MAX_JOBS_PER_WORKER": "100",
        "MPDISPATCH_BOOT_TIMEOUT": "2m",
        "MPDISPATCH_START_METHOD": "spawn",
        "MPDISPATCH_MAX_WORKER_RSS": "none",
        "MPDISPATCH_DURABILITY": "process",
        "MPDISPATCH_RETENTION": "14d",
        "MPDISPATCH_RETENTION_FAILED": "none",
        "MPDISPATCH_RETENTION_LIMIT": "100000",
    }
    assert {name.removeprefix("MPDISPATCH_").lower() for name in env} == DEFAULTS.keys()
    assert dataclasses.asdict(Config.resolve({}, env=env)) == {
        "concurrency": "auto",
        "queues": ("default", "critical", "bulk"),
        "pool": "dask+tls://[::1]:9000",
        "poll_interval": 0.25,
        "shutdown_timeout": 7200.0,
        "heartbeat_interval": 0.5,
        "stale_job_threshold": 300.0,
        "kill_grace": 1.0,
        "cancel_grace": 2.0,
        "max_payload_bytes": 1000,
        "max_result_bytes": 2000,
        "child_policy": "leave",
        "prefetch_window": 0.0,
        "max_prefetch": 8,
        "max_jobs_per_worker": 100,
        "boot_timeout": 120.0,
        "start_method": "spawn",
        "max_worker_rss": None,
        "durability": "process",
        "retention": 2 * 604_800.0,
        "retention_failed": None,
        "retention_limit": 100_000,
    }


def test_faults_of_all_sources_come_at_once_each_under_the_name_it_has_there():
    faults = faults_of(
        Config.resolve,
        {"concurrency": 0, "polling": 1},
        env={"MPDISPATCH_CONCURRENCY": "many", "MPDISPATCH_QUEUES": "a,,b"},
        file={"poll_intervall": 1, "retention": "soon", True: 1},
        file_key="extensions.dispatch",
    )
    assert faults.keys() == {
        "concurrency",
        "polling",
        "MPDISPATCH_CONCURRENCY",
        "MPDISPATCH_QUEUES",
        "extensions.dispatch.poll_intervall",
        "extensions.dispatch.retention",
        "extensions.dispatch.True",
    }
    assert faults["MPDISPATCH_CONCURRENCY"] == "must be a whole number from 1 to 10000 or 'auto', not 'many'"
    assert faults["extensions.dispatch.poll_intervall"] == (
        "no such setting; did you mean extensions.dispatch.poll_interval?"
    )


def test_a_misspelt_variable_is_reported_and_others_under_the_prefix_are_not_ours():
    faults = faults_of(Config.resolve, {}, env={"MPDISPATCH_QUEUE": "a", "MPDISPATCH_CONCURENCY": "4"})
    assert faults == {
        "MPDISPATCH_QUEUE": "no such setting; did you mean MPDISPATCH_QUEUES?",
        "MPDISPATCH_CONCURENCY": "no such setting; did you mean MPDISPATCH_CONCURRENCY?",
    }
    others = ["STORE", "APP", "CONFIG", "FAILPOINTS", "REQUIRE_SERVERS", "TOKEN", "LOG"]
    assert Config.resolve({}, env={f"MPDISPATCH_{name}": "x" for name in others} | {"PATH": "/bin"}) == Config()


def test_an_empty_variable_is_not_set():
    assert Config.resolve({}, env={"MPDISPATCH_CONCURRENCY": "", "MPDISPATCH_QUEUES": " "}) == Config()


def test_a_number_in_quotes_in_a_file_is_refused():
    assert faults_of(Config.resolve, {}, file={"concurrency": "20"}).keys() == {"file.concurrency"}


def test_null_in_a_file_means_none_only_where_none_is_allowed():
    assert Config.resolve({"retention": 5}, file={"retention": None}).retention == 5
    assert Config.resolve({}, file={"retention": None}).retention is None


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from([f"MPDISPATCH_{name.upper()}" for name in DEFAULTS]), st.text(), max_size=6)
)
def test_any_environment_is_taken_or_reported_by_its_variables(env):
    _, keys = attempt(Config.resolve, {}, env=env)
    assert keys <= env.keys()
