"""What is wrong is refused at the door: one clear line, the right exit code, nothing stored."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.whole.harness import CLI, Place

LONG = "x" * 120_000


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 2, done.stderr
    assert all(len(line) < 400 for line in lines), done.stderr
    for text in said:
        assert text in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "NAME"),
        (["quick", "--colour", "red"], "--colour"),
        (["quick", "--priority", "high"], "--priority"),
        (["quick", "--priority", str(2**63)], "priority"),
        (["quick", "--delay", "soon"], "--delay"),
        (["quick", "--delay", "-1"], "delay"),
        (["quick", "--delay", "nan"], "delay"),
        (["quick", "--run-at", "yesterday"], "--run-at"),
        (["quick", "--run-at", "2026-05-01T08:00:00Z", "--delay", "1"], "delay"),
        (["quick", "--max-retries", "-1"], "max"),
        (["quick", "--timeout", "0"], "timeout"),
        (["quick", "--queue", ""], "queue"),
        (["quick", "--queue", "a\nb"], "queue"),
        (["quick", "--count", "0"], "--count"),
        (["quick", "--idempotency-key", ""], "idempotency"),
        (["quick", "--args", "[1]"], "--args"),
        (["quick", "--args", "{"], "--args"),
        (["quick", "n"], "n"),
        (["quick", "n:=NaN"], "n"),
        (["quick", "n:=1e999"], "n"),
        (["quick", "n:=" + "[" * 300 + "]" * 300], "n"),
        (["quick", r'n:="\ud800"'], "n"),
        (["quick", *(f"k{i}={LONG}" for i in range(10))], "max_payload_bytes"),
        (["a\x1bb"], "name"),
        (["x" * 300], "name"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_enqueue_refuses_a_bad_value_with_2_and_stores_nothing(
    place: Place, argv: list[str], said: str
) -> None:
    assert_refused(place.cli("enqueue", *argv, "--store", "new.db"), 2, said)
    assert not (place.folder / "new.db").exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["quikc"], "quick"),
        (["quick", "m:=1"], "m"),
        (["quick", "n=text"], "n"),
        (["measure"], "path"),
        (["end_badly", "how:=3"], "how"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_with_an_app_name_and_arguments_are_checked(place: Place, argv: list[str], said: str) -> None:
    assert_refused(place.cli("enqueue", *argv, "-A", "tasks:engine"), 2, said)
    assert not place.db.exists()


def test_text_that_is_no_unicode_is_refused(place: Place) -> None:
    argv = [*map(str.encode, CLI), b"enqueue", b"--create", b"quick", b"n=\xff\xfe"]
    done = subprocess.run(argv, cwd=place.folder, env=place.env, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert not (place.folder / "mpdispatch.db").exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["supervise", "tasks:engine", "-c", "banana"], "-c"),
        (["supervise", "tasks:engine", "-c", "0"], "-c"),
        (["supervise", "tasks:engine", "-q", "a,,b"], "queue"),
        (["supervise", "tasks:engine", "-q", "a,a"], "twice"),
        (["supervise", "tasks"], "module:attribute"),
        (["supervise", "tasks:"], "module:attribute"),
        (["supervise"], "app"),
        (["jobs", "--state", "done"], "--state"),
        (["jobs", "--limit", "1001"], "--limit"),
        (["jobs", "--cursor", "zzz"], "cursor"),
        (["show", "zero"], "ID"),
        (["show", "0"], "ID"),
        (["stats", "--store", "ftp://x/y"], "--store"),
        (["frobnicate"], "frobnicate"),
        (["--colour"], "--colour"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_command_refuses_a_bad_value_with_2(place: Place, argv: list[str], said: str) -> None:
    if argv[0] == "jobs":
        assert place.cli("migrate").returncode == 0
    assert_refused(place.cli(*argv), 2, said)
    assert not place.db.exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MPDISPATCH_CONCURRENCY", "banana", "MPDISPATCH_CONCURRENCY"),
        ("MPDISPATCH_CONCURRENCY", "0", "MPDISPATCH_CONCURRENCY"),
        ("MPDISPATCH_CONCURENCY", "3", "MPDISPATCH_CONCURRENCY"),
        ("MPDISPATCH_POLL_INTERVAL", "soon", "MPDISPATCH_POLL_INTERVAL"),
        ("MPDISPATCH_STALE_JOB_THRESHOLD", "1", "heartbeat_interval"),
        ("MPDISPATCH_QUEUES", "a,,b", "MPDISPATCH_QUEUES"),
        ("MPDISPATCH_STORE", "ftp://x/y", "MPDISPATCH_STORE"),
        ("MPDISPATCH_CONFIG", "nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_a_bad_value_in_the_environment_exits_78_naming_it(
    place: Place, name: str, value: str, said: str
) -> None:
    argv = ["stats"] if name == "MPDISPATCH_STORE" else ["supervise", "tasks:engine", "--drain"]
    assert_refused(place.cli(*argv, env={name: value}), 78, said)
    assert not place.db.exists()


def test_every_fault_of_a_config_file_is_told_at_once(place: Place) -> None:
    (place.folder / "mpdispatch.yaml").write_text(
        "dispatch:\n  concurrency: many\n  poll_intervall: 3\n  heartbeat_interval: 0\n"
    )
    done = place.cli("supervise", "tasks:engine", "--drain")
    assert done.returncode == 78
    for said in ("concurrency", "poll_interval", "heartbeat_interval"):
        assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not place.db.exists()


@pytest.mark.parametrize(
    "bad",
    [
        "x" * (2 << 20),
        float("nan"),
        float("inf"),
        "\ud800",
        {"k\udfff": 1},
        {1: "a key that is no text"},
        object(),
        {1, 2},
        b"bytes",
    ],
    ids=lambda value: str(value)[:20].encode(errors="replace").decode(),
)
def test_the_library_refuses_arguments_it_cannot_keep(place: Place, bad: object) -> None:
    from mpdispatch import PayloadError

    handle = place.app.engine.job(name="anything")(_anything)
    with pytest.raises(PayloadError) as caught:
        handle.enqueue(bad)
    assert "value" in str(caught.value) or "arguments" in str(caught.value)
    assert len(str(caught.value)) < 400
    with pytest.raises(PayloadError):
        handle.enqueue_many([{"value": 1}, {"value": bad}])
    place.app.plain.enqueue()
    assert sum(place.counts().values()) == 1, "nothing of a refused batch is kept"


def _anything(value):  # type: ignore[no-untyped-def]  # a handler without annotations
    return value


def test_arguments_nested_too_deep_are_refused(place: Place) -> None:
    from mpdispatch import PayloadError

    handle = place.app.engine.job(name="anything")(_anything)
    nested: list[object] = []
    for _ in range(300):
        nested = [nested]
    with pytest.raises(PayloadError, match=r"200|deep|nest"):
        handle.enqueue(nested)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 1.5},
        {"priority": 2**63},
        {"delay": -1},
        {"delay": float("nan")},
        {"delay": 1, "run_at": "now"},
        {"timeout": 0},
        {"max_retries": -1},
        {"max_retries": True},
        {"queue": ""},
        {"idempotency_key": "k" * 201},
        {"queu": "x"},
    ],
    ids=str,
)
def test_options_are_checked_and_named(place: Place, options: dict[str, object]) -> None:
    from mpdispatch import UsageError

    with pytest.raises(UsageError, match=next(iter(options))):
        place.app.quick.options(**options).enqueue()
    assert not place.db.exists()


def test_without_an_app_arguments_are_kept_as_given(place: Place) -> None:
    done = place.cli("enqueue", "whatever", "a=1", "b:=2", 'c:={"d": [true, null]}', "--store", "jobs.db")
    assert done.returncode == 0
    assert re.fullmatch(r"\d+\n", done.stdout)
    assert place.show(int(done.stdout))["payload"] == {"a": "1", "b": 2, "c": {"d": [True, None]}}


def test_a_payload_just_below_the_limit_runs(place: Place) -> None:
    name = "x" * ((1 << 20) - 100)
    job = place.app.fail.options(max_retries=0).enqueue(name)
    assert place.drain("-c", "1") == 1
    assert place.job(job.id).payload == {"text": name}
    assert place.job(job.id).last_error.type == "ValueError"


def test_a_whole_number_of_any_size_arrives_as_it_was(place: Place) -> None:
    numbers = [2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40]
    ids = [place.app.plain.enqueue(n=n).id for n in numbers]
    assert place.drain("-c", "1") == 0
    assert [place.job(job_id).payload["n"] for job_id in ids] == numbers
    assert [place.job(job_id).result for job_id in ids] == numbers
