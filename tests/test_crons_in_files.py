"""Cron entries of a configuration file: how they are read, and how the app completes them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpdispatch import ConfigError, Engine
from mpdispatch.configfile import effective
from mpdispatch.execution.file_cron_jobs import complete, known_here, known_of
from mpdispatch.handlers.file_crons import FileCrons
from mpdispatch.model import COMMAND_JOB, Command, CronSpec

MAX_BYTES = 1 << 20


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = Engine.open(tmp_path / "jobs.db")

    @engine.job(queue="bulk", priority=4, max_retries=9, expires=600)
    def report(days: int = 1) -> None: ...

    return engine


def crons_of(folder: Path, text: str) -> FileCrons:
    file = folder / "mpdispatch.yaml"
    file.write_text("dispatch:\n" + textwrap.indent(textwrap.dedent(text), "  "))
    found = effective({}, env={}, config_file=file).file_crons
    assert found is not None
    assert found.path == str(file.resolve())
    return found


def specs_of(folder: Path, text: str, engine: Engine, *, by_description: bool = False) -> dict[str, CronSpec]:
    here = known_here(engine.registry, MAX_BYTES, lambda name: None)
    known = known_of(engine.describe(), MAX_BYTES) if by_description else here
    declared = complete(crons_of(folder, text), known)
    assert declared.origin == "file"
    return {each.name: each for each in declared.specs}


def faults_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        crons_of(folder, text)
    where = f"{folder / 'mpdispatch.yaml'}: dispatch.crons"
    return [str(fault).removeprefix(where) for fault in caught.value.faults]


@pytest.mark.parametrize("by_description", [False, True], ids=["with the handlers", "with the description"])
def test_a_mapping_by_name_and_a_list_mean_the_same(
    tmp_path: Path, engine: Engine, by_description: bool
) -> None:
    mapping = """
        crons:
          nightly:
            schedule: "0 3 * * *"
            tz: Europe/Berlin
            job: report
            args: {days: 7}
            catch_up: all
            catch_up_limit: 10
            overlap: queue
            jitter: 5m
            starts_at: 2026-11-01
            ends_at: 2026-12-01T00:00:00Z
            late_after: 2d
          "other":
            schedule: "@every 90s"
            tz: UTC
            job: report
            queue: fast
            priority: -1
            max_retries: 0
            timeout: 1h
            expires: 90s
        """
    as_list = """
        crons:
        - {name: nightly, schedule: "0 3 * * *", tz: Europe/Berlin, job: report, args: {days: 7}, catch_up: all,
           catch_up_limit: 10, overlap: queue, jitter: 5m, starts_at: 2026-11-01, ends_at: 2026-12-01T00:00:00Z,
           late_after: 2d}
        - {name: other, schedule: "@every 90s", tz: UTC, job: report, queue: fast, priority: -1, max_retries: 0,
           timeout: 1h, expires: 90s}
        """
    found = specs_of(tmp_path, mapping, engine, by_description=by_description)
    assert specs_of(tmp_path, as_list, engine, by_description=by_description) == found
    nightly, other = found.values()
    assert (nightly.job.queue, nightly.job.priority, nightly.job.max_retries) == ("bulk", 4, 9)
    assert (nightly.job.payload, nightly.jitter_us) == (b'{"days":7}', 300_000_000)
    assert (nightly.catch_up, nightly.catch_up_limit, nightly.overlap) == ("all", 10, "queue")
    assert (nightly.starts_at_us, nightly.ends_at_us) == (1793487600_000000, 1796083200_000000)
    assert nightly.late_after_us == 172_800_000_000
    assert (other.job.queue, other.job.priority, other.job.max_retries) == ("fast", -1, 0)
    assert (other.job.timeout_us, other.job.expires_us) == (3_600_000_000, 90_000_000)
    assert (nightly.job.timeout_us, nightly.job.expires_us) == (None, 600_000_000)


def test_a_command_is_a_list_or_text_that_no_shell_reads(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    found = specs_of(
        tmp_path,
        """
        crons:
          text: {schedule: "@hourly", command: "echo 'a b' $HOME"}
          list: {schedule: "@hourly", command: [echo, "a b", $HOME], cwd: /, env: {LEVEL: "3"}, max_retries: 2}
        """,
        engine,
    )
    text, listed = (msgspec.json.decode(each.job.payload, type=Command) for each in found.values())
    assert text.argv == listed.argv == ["echo", "a b", "$HOME"]
    assert (text.cwd, listed.cwd) == (str(tmp_path), "/")
    assert "LEVEL" not in text.env
    assert (listed.env["LEVEL"], listed.env["PATH"]) == ("3", "/usr/bin:/bin")
    assert [each.job.name for each in found.values()] == [COMMAND_JOB] * 2
    assert [each.job.max_retries for each in found.values()] == [0, 2]


def test_all_faults_are_reported_at_once_by_their_keys(tmp_path: Path) -> None:
    faults = faults_of(
        tmp_path,
        """
        crons:
          a: {schedule: "61 * * * *", tz: Nowhere/At_All, job: report}
          b: {shedule: "@daily", job: report}
          c: {schedule: "@daily", job: report, command: "ls"}
          d: {schedule: "@daily"}
          e: {schedule: "@daily", command: "ls 'x", jitter: soon, args: {}}
          f: 5
          g: {schedule: "@daily", job: report, name: other, overlap: stack, env: {A: 5}}
          h: {schedule: "@daily", job: mpdispatch.command}
          i: {schedule: "@daily", command: [], cwd: here}
        """,
    )
    expected = [
        ".a.schedule: the minute must be 0-59",
        ".a.tz: must be the name of a zone",
        ".b.schedule: is required",
        ".b.shedule: no such setting; did you mean schedule?",
        ".c.command: is not for an entry with a job",
        ".d.job: is required, or command",
        ".e.args: is not for an entry with a command",
        ".e.command: cannot be split into words: No closing quotation",
        ".e.jitter: must be a duration",
        ".f: must be a mapping with a schedule and a job, not 5",
        ".g.env: A must be text, not 5",
        ".g.env: is not for an entry with a job",
        ".g.name: must be 'g', which is its key, or left out",
        ".g.overlap: must be 'allow'",
        ".h.job: 'mpdispatch.command' is reserved for commands",
        ".i.command: must be a program with its arguments",
        ".i.cwd: must be the absolute path of a folder",
    ]
    assert len(faults) == len(expected), faults
    for text, fault in zip(expected, sorted(faults), strict=True):
        assert fault.startswith(text), (fault, text)


def test_a_list_needs_names_each_of_its_own(tmp_path: Path) -> None:
    text = """
        crons:
        - {schedule: "@daily", job: report}
        - {name: "", schedule: "@daily", job: report}
        """
    assert faults_of(tmp_path, text) == ["[0].name: is required", "[1].name: name must not be empty"]
    twice = """
        crons:
        - {name: a, schedule: "@daily", job: report}
        - {name: a, schedule: "@hourly", job: report}
        """
    assert faults_of(tmp_path, twice) == [": the entry 'a' is there twice"]


def test_keys_that_are_no_names_are_refused(tmp_path: Path) -> None:
    entry = '{schedule: "@daily", job: a}'
    faults = faults_of(tmp_path, f"crons: {{5: {entry}, null: {entry}, yes: {entry}, '': {entry}}}\n")
    no_text = "must be text, as it is the name of an entry: put it in quotes"
    assert len(faults) == 4
    assert {f".5: {no_text}", f".None: {no_text}", f".True: {no_text}"} < set(faults)
    assert any(each.endswith("name must not be empty") for each in faults)


@pytest.mark.parametrize("value", ["5", "nightly", "true"])
def test_neither_a_mapping_nor_a_list(tmp_path: Path, value: str) -> None:
    (fault,) = faults_of(tmp_path, f"crons: {value}\n")
    assert fault.startswith(": must be a mapping such as {nightly:")


def test_what_the_app_does_not_have_is_reported_at_once(tmp_path: Path, engine: Engine) -> None:
    text = """
        crons:
          b: {schedule: "@daily", job: report, args: {days: many}}
          c: {schedule: "@daily", command: no-such-program-here}
          d: {schedule: "@daily", command: ls, cwd: /no/such/folder}
          e: {schedule: "@daily", job: report}
        """
    with pytest.raises(ConfigError) as caught:
        specs_of(tmp_path, text, engine)
    prefix = f"{tmp_path / 'mpdispatch.yaml'}: crons"
    texts = [str(fault).removeprefix(prefix) for fault in caught.value.faults]
    assert len(texts) == 3, texts
    assert texts[0].startswith(".b.args.days: Expected `int`")
    assert texts[1] == ".c.command: there is no program 'no-such-program-here' on PATH"
    assert texts[2] == ".d.command: there is no folder '/no/such/folder' to run it in"


def test_a_handler_that_the_app_has_not_is_refused_or_may_come_later(tmp_path: Path, engine: Engine) -> None:
    text = 'crons: {a: {schedule: "@daily", job: reprot, args: {days: 2}}}'
    with pytest.raises(ConfigError, match=r"crons\.a\.job: no handler 'reprot'"):
        specs_of(tmp_path, text, engine, by_description=True)
    missing: list[str] = []
    (spec,) = complete(crons_of(tmp_path, text), known_here(engine.registry, MAX_BYTES, missing.append)).specs
    assert missing == ["reprot"]
    assert (spec.job.name, spec.job.payload, spec.job.queue) == ("reprot", b'{"days":2}', "default")


def test_a_file_without_entries_declares_none(tmp_path: Path, engine: Engine) -> None:
    assert specs_of(tmp_path, "concurrency: 3\n", engine) == {}
    assert effective({}, env={}, config_file=None).file_crons is None


def test_the_environment_cannot_give_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = dict(effective({}, env={"MPDISPATCH_CRONS": "nightly"}).others)
    assert found["crons"] == ()
