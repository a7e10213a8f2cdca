"""Settings of an extension: which source wins, and every fault at once by its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpdispatch import ConfigError, QueueConfig
from mpdispatch.extension import DispatchExtension


def faults(**given: object) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        DispatchExtension(**given)
    return {fault.key: fault.message for fault in raised.value.faults}


def test_argument_beats_environment_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("app.yaml").write_text(
        "dispatch: {base_path: /file, concurrency: 3, poll_interval: 3s, disable_routes: true}"
    )
    monkeypatch.setenv("MPDISPATCH_BASE_PATH", "/env")
    monkeypatch.setenv("MPDISPATCH_CONCURRENCY", "2")
    ext = DispatchExtension(store="jobs.db", concurrency=1, disable_routes=False)
    assert ext.settings.config.concurrency == 1
    assert ext.base_path == "/env"
    assert ext.settings.config.poll_interval == 3.0
    assert ext.settings.others["disable_routes"] is False
    origins = ext.settings.origins
    assert (origins["concurrency"], origins["base_path"]) == ("argument", "MPDISPATCH_BASE_PATH")
    assert (origins["poll_interval"], origins["kill_grace"]) == ("app.yaml: dispatch.poll_interval", "default")
    # A supervisor elsewhere must know what the code says from what was around it.
    assert ext.engine.dispatcher.origins["poll_interval"] == "app.yaml: dispatch.poll_interval"


def test_a_yaml_with_five_faults_is_told_all_of_them_by_path_with_the_nearest_key() -> None:
    Path("forge.yaml").write_text(
        "extensions:\n  dispatch:\n    concurency: 20\n    base_path: api\n    disable_routes: 'no'\n"
        "    shutdown_timeout: soon\n    queue_configs:\n      - {name: bulk, rate: 5}\n"
    )
    where = "forge.yaml: extensions.dispatch"
    assert faults(concurrency=0, token="") == {
        "concurrency": "must be a whole number from 1 to 10000 or 'auto', not 0",
        f"{where}.concurency": "no such setting; did you mean extensions.dispatch.concurrency?",
        f"{where}.base_path": "must be a path such as '/api/dispatch', not 'api'",
        f"{where}.disable_routes": "must be true or false, not 'no'",
        f"{where}.shutdown_timeout": "must be a duration such as '250ms', '30s', '5m' or '2h', not 'soon'",
        f"{where}.queue_configs[0].rate": "no such setting; did you mean rate_limit?",
        "token": "must be ASCII text, not empty and without blanks around it",
    }


@pytest.mark.parametrize("given", ["no", "", "false", 0, 1, None, [], lambda request: False])
def test_allow_anonymous_is_a_real_bool_and_told_with_the_other_faults(given: object) -> None:
    found = faults(allow_anonymous=given, auth="no", token="", concurrency=0)
    assert set(found) == {"allow_anonymous", "auth", "token", "concurrency"}
    assert found["allow_anonymous"].startswith("must be True or False, not ")


def test_a_key_that_stands_there_twice_is_told_with_the_others() -> None:
    Path("forge.yaml").write_text(
        "other: {a: 1, a: 2}\ndispatch:\n  concurrency: 3\n  concurrency: 4\n  x: 1\n"
    )
    found = faults()
    assert found["forge.yaml:4"] == "the key 'concurrency' is there twice"
    assert "forge.yaml: dispatch.x" in found
    assert len(found) == 2


def test_faults_of_variables_are_told_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPDISPATCH_DISABLE_ROUTES", "maybe")
    monkeypatch.setenv("MPDISPATCH_BASE_PATHS", "/x")
    assert faults() == {
        "MPDISPATCH_DISABLE_ROUTES": "must be true or false, not 'maybe'",
        "MPDISPATCH_BASE_PATHS": "no such setting; did you mean MPDISPATCH_BASE_PATH?",
    }


def test_queue_configs_and_durations_come_from_the_file() -> None:
    Path("app.yaml").write_text(
        "dispatch:\n  shutdown_timeout: 2h\n  poll_interval: 250ms\n  retention: 7d\n  kill_grace: 1.5\n"
        "  queue_configs:\n    - {name: critical, max_concurrency: 20, rate_limit: 50}\n    - name: bulk\n"
    )
    ext = DispatchExtension(store="jobs.db")
    config = ext.settings.config
    assert (config.shutdown_timeout, config.poll_interval, config.retention) == (7200.0, 0.25, 604_800.0)
    assert config.kill_grace == 1.5
    assert ext.engine.queue_configs == (QueueConfig("critical", 20, 50.0), QueueConfig("bulk"))
    given = DispatchExtension(store="jobs.db", queue_configs=[QueueConfig("own")])
    assert given.engine.queue_configs == (QueueConfig("own"),)


def test_a_mapping_stands_for_a_queue_config() -> None:
    ext = DispatchExtension(store="jobs.db", queue_configs=[{"name": "x", "rate_limit": 5}])
    assert ext.engine.queue_configs == (QueueConfig("x", rate_limit=5.0),)


def test_everything_wrong_with_the_arguments_is_told_at_once() -> None:
    found = faults(
        concurrency=0, token="", queue_configs=3, extensions=3, middleware=[None], backoff="fast", retention="?"
    )
    keys = {"concurrency", "token", "queue_configs", "extensions", "middleware[0]", "backoff", "retention"}
    assert found.keys() == keys
    assert found["queue_configs"].startswith("must be a list such as")
    assert found["extensions"] == "must be a list of extensions, not int"


def test_a_queue_configured_twice_or_without_a_name_is_a_fault() -> None:
    Path("app.yaml").write_text("dispatch: {queue_configs: [{name: a}, {name: a}, {rate_limit: 5}, 3]}")
    assert faults() == {
        "app.yaml: dispatch.queue_configs": "the queue 'a' is there twice",
        "app.yaml: dispatch.queue_configs[2].name": "is required",
        "app.yaml: dispatch.queue_configs[3]": "must be a mapping with a name, not 3",
    }


def test_require_config_without_a_file_or_key_is_an_error() -> None:
    assert "config_file" in faults(require_config=True)
    Path("app.yaml").write_text("other: 1\n")
    assert "extensions.dispatch nor dispatch" in faults(require_config=True)["config_file"]
    Path("app.yaml").write_text("dispatch:\n")
    DispatchExtension(store="jobs.db", require_config=True)


def test_config_file_names_the_file_and_must_have_the_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sub").mkdir()
    Path("sub/mine.yaml").write_text("dispatch: {concurrency: 7}")
    assert DispatchExtension(store="j.db", config_file="sub/mine.yaml").settings.config.concurrency == 7
    monkeypatch.setenv("MPDISPATCH_CONFIG", "sub/mine.yaml")
    assert DispatchExtension(store="j.db").settings.config.concurrency == 7
    assert "nowhere.yaml" in next(iter(faults(config_file="nowhere.yaml")))


@pytest.mark.parametrize(
    ("given", "kept"), [("/jobs", "/jobs"), ("/jobs/", "/jobs"), ("/a/b-c_d.e~f", "/a/b-c_d.e~f")]
)
def test_base_path_loses_its_last_slash(given: str, kept: str) -> None:
    assert DispatchExtension(store="j.db", base_path=given).base_path == kept


@pytest.mark.parametrize("given", ["", "/", "jobs", "//", "/a//b", "/{x}", "/a?b", "/a b", "/../x", 3])
def test_base_path_must_be_a_path(given: object) -> None:
    assert "base_path" in faults(base_path=given)


def test_the_store_of_the_file_is_for_the_command_line_where_the_app_asks_for_a_resource() -> None:
    Path("app.yaml").write_text("dispatch: {store: cli.db}")
    assert DispatchExtension().store.location.endswith("cli.db")
    ext = DispatchExtension(grove_database="", resources={"": "app.db"})
    assert "app.db" in ext.store.location
    assert DispatchExtension(grove_database="", resources={}).store.location.endswith("cli.db")
    Path("app.yaml").write_text("dispatch: {store: cli.db, grove_database: ''}")
    assert DispatchExtension(resources={"": "app.db"}).store.location.endswith("cli.db")


def test_the_durability_of_the_settings_is_the_stores() -> None:
    assert "durability=process" in DispatchExtension(store="a.db", durability="process").store.location
    ext = DispatchExtension(grove_database="", resources={"": "a.db"}, durability="process")
    assert ext.store.location.endswith("?durability=process&shared=1")


@pytest.mark.parametrize(
    ("given", "key"), [({"store": 3}, "store"), ({"store": ""}, "store"), ({"auth": 3}, "auth")]
)
def test_other_bad_arguments_are_faults(given: dict[str, object], key: str) -> None:
    assert key in faults(**given)
