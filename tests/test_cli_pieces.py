"""Values, output, log lines and the configuration file of the command line, each by itself."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.cli.logs import LineFormatter
from mpdispatch.cli.output import escape, print_json_array, print_table, time_text
from mpdispatch.cli.values import CONCURRENCY, DURATION, RFC3339, arguments_of
from mpdispatch.config import Config
from mpdispatch.configfile import effective
from mpdispatch.errors import ConfigError

# ---------------------------------------------------------------- values


@given(
    st.dictionaries(
        st.text("abcxyz", min_size=1),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_json_arguments_come_back_as_they_were(arguments: dict[str, object]) -> None:
    assert arguments_of([f"{key}:={json.dumps(value)}" for key, value in arguments.items()], None) == arguments
    assert arguments_of([], json.dumps(arguments)) == arguments


@given(st.text())
def test_text_arguments_are_kept_to_the_letter(text: str) -> None:
    assert arguments_of([f"k={text}"], None) == {"k": text}


def test_pairs_win_over_the_object() -> None:
    assert arguments_of(["a=1", "b:=2"], '{"a": 0, "c": 3}') == {"a": "1", "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("pairs", "whole"),
    [
        (["a"], None),
        (["=1"], None),
        ([":=1"], None),
        (["a:=x"], None),
        (["a:=NaN"], None),
        (['a:={"b":1,"b":2}'], None),
        (["a=1", "a=2"], None),
        (["a:=" + "[" * 100_000], None),
        (["a:=" + "9" * 5000], None),
        ([], "[1]"),
        ([], "{"),
    ],
)
def test_bad_arguments_are_usage_errors(pairs: list[str], whole: str | None) -> None:
    with pytest.raises(click.UsageError):
        arguments_of(pairs, whole)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-05-01T08:00:00Z", datetime(2026, 5, 1, 8, tzinfo=UTC)),
        ("2026-05-01t08:00:00.25z", datetime(2026, 5, 1, 8, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-05-01 10:00:00+02:00", datetime(2026, 5, 1, 8, tzinfo=UTC)),
    ],
)
def test_times_are_rfc3339(text: str, wanted: datetime) -> None:
    assert RFC3339.convert(text, None, None) == wanted


@pytest.mark.parametrize(
    "text",
    ["2026-05-01", "2026-05-01T08:00:00", "tomorrow", "2026-13-01T08:00:00Z", "0001-01-01T00:00:00+23:00"],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        RFC3339.convert(text, None, None)


def test_durations_and_concurrency() -> None:
    assert DURATION.convert("1m30s", None, None) == 90.0
    assert (CONCURRENCY.convert("auto", None, None), CONCURRENCY.convert("4", None, None)) == ("auto", 4)
    for text in ("0", "-1", "many", "1.5", "٣"):
        with pytest.raises(click.BadParameter):
            CONCURRENCY.convert(text, None, None)


# ---------------------------------------------------------------- output


@given(st.text())
def test_escaped_text_cannot_steer_a_terminal(text: str) -> None:
    assert escape(text).isprintable()


def test_table_is_aligned_plain_text_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["id", "name"], [[7, "resize"], [41, "\x1b[31mred\n"]], right=["id"])
    assert capsys.readouterr().out == "id  name\n 7  resize\n41  \\x1b[31mred\\n\n"


@given(st.lists(st.integers()))
def test_streamed_array_is_one_json_document(items: list[int]) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json_array(items)
    assert json.loads(out.getvalue()) == items


def test_time_of_nothing_is_empty() -> None:
    assert time_text(None) == ""


# ---------------------------------------------------------------- log lines


def formatted(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"name": "mpdispatch.pool", "levelname": "INFO", "msg": message, **extra})
    return LineFormatter().format(record)


def test_log_line_holds_the_facts_of_extra() -> None:
    line = formatted("worker died", pid=41, signal="SIGKILL", reason="out of memory")
    assert line.endswith('info    mpdispatch.pool: worker died pid=41 signal=SIGKILL reason="out of memory"')


@given(st.text(), st.text())
def test_log_record_is_one_line_whatever_it_holds(message: str, fact: str) -> None:
    assert escape(formatted(message.replace("%", ""), fact=fact)).isprintable()
    assert len(formatted(message.replace("%", ""), fact=fact).splitlines()) == 1


def test_traceback_in_a_log_is_indented() -> None:
    try:
        raise ValueError("\n00:00:00 error   forged")
    except ValueError:
        record = logging.makeLogRecord({"msg": "broken", "exc_info": sys.exc_info()})
    first, *rest = LineFormatter().format(record).splitlines()
    assert first.endswith("broken")
    assert rest
    assert all(line.startswith("    ") for line in rest)


# ---------------------------------------------------------------- configuration file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults_of(explicit: str | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        effective({}, env={}, config_file=explicit)
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.usefixtures("folder")
def test_no_file_is_fine_and_does_not_load_yaml() -> None:
    code = (
        "import sys; from mpdispatch.configfile import effective as f; f({}, env={});"
        "sys.exit('yaml' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert effective({}, env={}).section is None


def test_file_of_another_program_is_not_even_parsed(folder: Path) -> None:
    (folder / "config.yaml").write_text("{{ templated }}: [")
    assert effective({}, env={}).section is None


def test_first_file_that_has_the_key_counts(folder: Path) -> None:
    (folder / "mpdispatch.yaml").write_text("other: {dispatch_x: 1}\n")
    (folder / "app.yaml").write_text("dispatch: {store: a.db}\n")
    (folder / "config.yaml").write_text("dispatch: {store: c.db}\n")
    settings = effective({}, env={})
    assert settings.others["store"] == "a.db"


def test_key_below_extensions_comes_first(folder: Path) -> None:
    (folder / "forge.yaml").write_text(
        "dispatch: {store: b.db}\nextensions: {dispatch: {store: a.db, concurrency: 3}}\n"
    )
    settings = effective({}, env={})
    assert settings.section is not None
    assert settings.section.key == "extensions.dispatch"
    assert (settings.others["store"], settings.file_config) == ("a.db", {"concurrency": 3})


def test_every_fault_of_a_file_is_told_by_its_path(folder: Path) -> None:
    (folder / "mpdispatch.yaml").write_text(
        "dispatch:\n  concurency: 4\n  poll_interval: soon\n  store: 7\n  disable_routes: maybe\n"
        "  queue_configs:\n    - {name: a, rate: 5}\n    - {name: b}\n    - {name: b}\n    - 3\n"
    )
    faults = faults_of()
    for part in (
        "dispatch.concurency",
        "dispatch.poll_interval",
        "dispatch.store",
        "dispatch.disable_routes",
        "dispatch.queue_configs[0]",
        "dispatch.queue_configs[3]",
        "'b' is there twice",
    ):
        assert any(part in fault for fault in faults), (part, faults)
    assert any("concurrency" in fault for fault in faults if "concurency" in fault)
    assert all(fault.startswith("mpdispatch.yaml: ") for fault in faults)


@pytest.mark.parametrize(
    "text",
    [
        "dispatch: [",
        "dispatch: 3",
        "dispatch: {1: 2}",
        "dispatch: {queues: [on]}",
        "dispatch: !!python/object:os.system {}",
        "dispatch: {store: a, store: b}",
        "dispatch: {concurrency: true}",
        "dispatch: {store: 2026-13-45}",
    ],
)
def test_bad_file_is_a_config_error(folder: Path, text: str) -> None:
    (folder / "mpdispatch.yaml").write_text(text)
    assert faults_of()


def test_explicit_file_must_be_there_and_have_the_key(folder: Path) -> None:
    assert "nowhere.yaml" in faults_of("nowhere.yaml")[0]
    (folder / "x.yaml").write_text("a: 1\n")
    assert "extensions.dispatch" in faults_of("x.yaml")[0]


def test_empty_section_is_no_settings(folder: Path) -> None:
    (folder / "mpdispatch.yaml").write_text("dispatch:\n")
    settings = effective({}, env={})
    assert (settings.config, settings.file_config) == (Config(), {})
    assert set(settings.origins.values()) == {"default"}
