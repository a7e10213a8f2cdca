import copy
import dataclasses
import inspect
import math
import pickle
import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch import config as config_module
from mpdispatch.config import Config, QueueConfig
from mpdispatch.errors import ConfigError

MIB = 1 << 20

DEFAULTS = {
    "concurrency": 10,
    "queues": ("default",),
    "pool": "processes",
    "poll_interval": 1.0,
    "shutdown_timeout": 30.0,
    "heartbeat_interval": 10.0,
    "stale_job_threshold": 30.0,
    "kill_grace": 0.3,
    "cancel_grace": 5.0,
    "max_payload_bytes": MIB,
    "max_result_bytes": MIB,
    "child_policy": "kill",
    "prefetch_window": 0.01,
    "max_prefetch": 400,
    "max_jobs_per_worker": None,
    "boot_timeout": 60.0,
    "start_method": "forkserver",
    "max_worker_rss": None,
    "durability": "full",
    "retention": 7 * 86_400.0,
    "retention_failed": 30 * 86_400.0,
    "retention_limit": None,
}


def faults_of(call, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return {fault.key: fault.message for fault in caught.value.faults}


def attempt(call, *args, **kwargs):
    """The configuration and no fault, or none and the keys of its faults."""
    try:
        return call(*args, **kwargs), set()
    except ConfigError as error:
        return None, {fault.key for fault in error.faults}


def test_the_defaults_are_the_contract():
    assert dataclasses.asdict(Config()) == DEFAULTS
    assert dataclasses.asdict(Config.resolve({}, env={}, file={})) == DEFAULTS
    assert dataclasses.asdict(QueueConfig("a")) == {
        "name": "a",
        "max_concurrency": None,
        "rate_limit": None,
        "rate_burst": 1,
    }


def test_the_signature_for_type_checkers_names_every_field():
    # The one that runs takes **given, so that unknown keywords are reported with all the rest.
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(config_module))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for cls in (Config, QueueConfig):
        branch = next(node for node in classes[cls.__name__].body if isinstance(node, ast.If))
        arguments = branch.body[0].args
        named = [argument.arg for argument in arguments.args[1:] + arguments.kwonlyargs]
        assert named == [field.name for field in dataclasses.fields(cls)]


@pytest.mark.parametrize("cls", [Config, QueueConfig])
def test_help_says_what_every_field_means(cls):
    text = inspect.getdoc(cls)
    missing = [each.name for each in dataclasses.fields(cls) if f"\n    {each.name}: " not in text]
    assert missing == []


def test_values_are_normalised():
    config = Config(
        queues=["a", "b"], poll_interval=timedelta(milliseconds=200), retention="7d", shutdown_timeout=5
    )
    assert (config.queues, config.poll_interval, config.retention) == (("a", "b"), 0.2, 604_800.0)
    assert isinstance(config.shutdown_timeout, float)


def test_config_is_a_frozen_value():
    config = Config(concurrency=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.concurrency = 4
    assert config == Config(concurrency=3) != Config()
    assert hash(config) == hash(Config(concurrency=3))
    assert pickle.loads(pickle.dumps(config)) == copy.copy(config) == config
    assert dataclasses.replace(config, concurrency=4) == Config(concurrency=4)
    with pytest.raises(ConfigError):
        dataclasses.replace(config, concurrency=0)


def test_auto_concurrency_is_the_number_of_usable_cpus(monkeypatch):
    monkeypatch.setattr(config_module, "usable_cpus", lambda: 7)
    assert Config(concurrency="auto").slots == 7
    assert Config(concurrency=3).slots == 3


NOT_DURATIONS = [-1, math.nan, math.inf, True, "soon", [], 1e12]
DURATIONS = [name for name, value in DEFAULTS.items() if isinstance(value, float)]
NOT_COUNTS = [0, -1, 2.5, True, "ten", math.nan, 1 << 60]
COUNTS = [
    "concurrency",
    "max_payload_bytes",
    "max_result_bytes",
    "max_prefetch",
    "max_jobs_per_worker",
    "max_worker_rss",
]
BAD_VALUES = [
    *((name, bad) for name in DURATIONS for bad in NOT_DURATIONS),
    *((name, bad) for name in COUNTS for bad in NOT_COUNTS),
    *((name, 64 * MIB + 1) for name in ("max_payload_bytes", "max_result_bytes")),
    *((name, "Kill") for name in ("child_policy", "durability")),
    *((name, None) for name, value in DEFAULTS.items() if value is not None and "retention" not in name),
    *(("retention_limit", bad) for bad in (-1, 2.5, True, "ten", 1 << 60)),
    *(("queues", bad) for bad in ["default", [], [""], ["a\n"], ["a", "a"], ["x" * 201], [True], 5, {"a": 1}]),
    *((name, 0) for name in ("poll_interval", "heartbeat_interval", "stale_job_threshold")),
]


@pytest.mark.parametrize(("name", "bad"), BAD_VALUES, ids=lambda value: str(value)[:20])
def test_a_bad_value_is_refused_by_its_key_wherever_it_stands(name, bad):
    assert list(faults_of(Config, **{name: bad})) == [name]
    assert list(faults_of(Config.resolve, {name: bad})) == [name]
    assert list(faults_of(Config.resolve, {}, file={name: bad})) == [f"file.{name}"]


@pytest.mark.parametrize(
    "name",
    ["shutdown_timeout", "kill_grace", "cancel_grace", "prefetch_window", "retention", "retention_failed"],
)
def test_zero_is_a_duration_where_it_means_something(name):
    assert getattr(Config(**{name: 0}), name) == 0


def test_up_to_64_mib_of_payload_and_result_may_be_allowed():
    config = Config(max_payload_bytes=64 * MIB, max_result_bytes=64 * MIB)
    assert config.max_payload_bytes == config.max_result_bytes == 64 * MIB


def test_every_fault_is_reported_at_once():
    faults = faults_of(
        Config, concurrency=0, queues=[], poll_interval=-1, durability="some", concurency=4, zzz=1
    )
    assert faults.keys() == {"concurrency", "queues", "poll_interval", "durability", "concurency", "zzz"}
    assert faults["concurency"] == "no such setting; did you mean concurrency?"
    assert faults["zzz"].startswith("no such setting; there are boot_timeout, cancel_grace, ")


@pytest.mark.parametrize("threshold", [9, 10])
def test_the_threshold_must_exceed_the_heartbeat(threshold):
    text = f"stale_job_threshold ({threshold} s) must exceed heartbeat_interval (10 s)"
    assert faults_of(Config, stale_job_threshold=threshold) == {"stale_job_threshold": text}
    assert Config(stale_job_threshold=10.1).stale_job_threshold == 10.1


def test_a_heartbeat_past_the_default_threshold_is_blamed_itself():
    assert faults_of(Config, heartbeat_interval=40).keys() == {"heartbeat_interval"}
    faults = faults_of(Config.resolve, {}, env={"MPDISPATCH_HEARTBEAT_INTERVAL": "1m"})
    assert faults.keys() == {"MPDISPATCH_HEARTBEAT_INTERVAL"}


def test_threshold_and_heartbeat_are_compared_over_all_sources():
    env, file = {"MPDISPATCH_HEARTBEAT_INTERVAL": "5s"}, {"stale_job_threshold": "4s"}
    assert faults_of(Config.resolve, {}, env=env, file=file).keys() == {"file.stale_job_threshold"}
    assert Config.resolve({"heartbeat_interval": 1}, env=env, file=file).stale_job_threshold == 4


# No deadline: a loaded machine is slow, not wrong.
@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(DEFAULTS)), st.text() | st.integers() | st.floats() | st.none(), max_size=6
    )
)
def test_any_value_is_taken_or_reported_under_its_key(values):
    config, keys = attempt(Config, **values)
    assert keys <= values.keys()
    if config is not None:
        assert config.stale_job_threshold > config.heartbeat_interval
        assert Config(**dataclasses.asdict(config)) == config


# ---------------------------------------------------------------- queues


def test_a_queue_config_takes_its_limits_by_position_or_name():
    assert QueueConfig("critical", 20, 50) == QueueConfig(
        "critical", max_concurrency=20, rate_limit=50.0, rate_burst=1
    )


def test_every_fault_of_a_queue_config_is_reported_under_its_queue():
    faults = faults_of(
        QueueConfig, "bulk", max_concurrency=0, rate_limit=math.nan, rate_burst=True, max_concurency=1
    )
    assert faults.keys() == {
        "bulk.max_concurrency",
        "bulk.rate_limit",
        "bulk.rate_burst",
        "bulk.max_concurency",
    }
    assert faults["bulk.max_concurency"] == "no such setting; did you mean bulk.max_concurrency?"


@pytest.mark.parametrize("rate", [0, -1, math.inf, True, "50", 1e9, 1e-9])
def test_a_rate_out_of_range_is_refused(rate):
    assert faults_of(QueueConfig, "a", rate_limit=rate).keys() == {"a.rate_limit"}


@pytest.mark.parametrize("name", ["", "a\nb", None, 5, "x" * 201])
def test_a_queue_needs_a_proper_name(name):
    assert faults_of(QueueConfig, name).keys() == {"name"}


def test_a_queue_without_a_name_is_refused():
    assert faults_of(QueueConfig, max_concurrency=1) == {"name": "is required"}


# ---------------------------------------------------------------- weight


def test_config_imports_without_the_heavy_packages():
    code = (
        "import sys, mpdispatch.config;"
        "heavy = {'msgspec', 'yaml', 'psutil', 'click', 'rich', 'sqlite3'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
