"""Command jobs: what they take along, and how they run and end. The programs are real."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpdispatch.config import Config
from mpdispatch.errors import (
    CommandFailedError,
    JobCancelled,
    JobTimeout,
    PayloadError,
    RegistrationError,
    UsageError,
)
from mpdispatch.execution import catalog, commands
from mpdispatch.execution.commands import environment_of, payload_of, run_command
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.process_context import set_current_job
from mpdispatch.execution.spool import INLINE_BYTES, spool_file
from mpdispatch.handlers.description import describe
from mpdispatch.handlers.registry import JobDefinition, Registry, check_job_name
from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.model import COMMAND_JOB, KEPT_BYTES, ClaimedJob, ClaimRequest, Command, Stream
from mpdispatch.policy.admission import refusal

ENV = {"PATH": os.environ["PATH"]}


class Wire:
    """What a worker would send."""

    def __init__(self) -> None:
        self.pieces: list[tuple[Stream, str, int]] = []

    def progress(self, job_id: int, starts: int, data: bytes) -> None: ...

    def output(
        self, job_id: int, starts: int, stream: Stream, text: str, written: int, *, is_last: bool
    ) -> None:
        self.pieces.append((stream, text, written))

    def text(self, stream: Stream) -> str:
        return "".join(text for which, text, _ in self.pieces if which is stream)


class Job:
    def __init__(self, slot_us: int | None = None) -> None:
        job = ClaimedJob(
            id=7,
            starts=2,
            attempt=1,
            name=COMMAND_JOB,
            queue="default",
            priority=0,
            run_at_us=0,
            max_retries=0,
            timeout_us=None,
            idempotency_key=None,
            payload=b"{}",
            slot_us=slot_us,
        )
        self.wire = Wire()
        self.context = JobContext(job, reporter=self.wire, deadline=None)

    def run(self, *argv: str, cwd: str = "/", env: dict[str, str] | None = ENV, **more: Any) -> Any:
        set_current_job(self.context)
        try:
            return run_command(list(argv), cwd, env, **more)
        finally:
            self.context.close()
            set_current_job(None)


@pytest.fixture
def job() -> Job:
    return Job()


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def until(claim: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


# ---------------------------------------------------------------- what is taken along


def test_the_environment_is_the_basics_and_what_was_chosen() -> None:
    here = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "TZ": "UTC", "SECRET": "s", "TOKEN": "t"}
    basics = {name: here[name] for name in ("PATH", "HOME", "LC_ALL", "TZ")}
    assert environment_of(here, []) == basics
    assert environment_of(here, ["TOKEN", "MODE=a=b", "PATH="]) == basics | {
        "TOKEN": "t",
        "MODE": "a=b",
        "PATH": "",
    }


@pytest.mark.parametrize("choice", ["NOT_SET", "", "=x", "A\0=x"])
def test_a_variable_that_is_not_set_or_no_name_is_refused(choice: str) -> None:
    with pytest.raises(UsageError, match="--env"):
        environment_of({}, [choice])


def test_a_payload_that_is_too_large_or_no_unicode_is_refused() -> None:
    kept = payload_of(["a", "é"], cwd="/", env={}, max_bytes=100)
    assert msgspec.json.decode(kept, type=Command) == Command(argv=["a", "é"], cwd="/", env={})
    with pytest.raises(PayloadError, match="max_payload_bytes"):
        payload_of(["a" * 100], cwd="/", env={}, max_bytes=100)
    with pytest.raises(PayloadError, match="UTF-8"):
        payload_of([os.fsdecode(b"\xff")], cwd="/", env={}, max_bytes=100)


# ---------------------------------------------------------------- running


def test_a_program_gets_its_arguments_folder_and_environment_and_no_more(job: Job, tmp_path: Path) -> None:
    os.environ["SECRET_OF_THE_WORKER"] = "x"
    try:
        result = job.run("sh", "-c", 'echo "$0|$1"; pwd; env', "a b", "$c *", cwd=str(tmp_path), env=ENV)
    finally:
        del os.environ["SECRET_OF_THE_WORKER"]
    assert result == {"exit_status": 0}
    arguments, folder, *variables = job.wire.text(Stream.STDOUT).splitlines()
    assert (arguments, folder) == ("a b|$c *", str(tmp_path))
    names = {line.partition("=")[0] for line in variables}
    ours = {"PATH", "MPDISPATCH_JOB_ID", "MPDISPATCH_ATTEMPT", WORKER_VARIABLE}
    assert names <= ours | {"PWD", "OLDPWD", "SHLVL", "_"}
    assert {"MPDISPATCH_JOB_ID=7", "MPDISPATCH_ATTEMPT=1"} <= set(variables)


def test_a_program_of_a_cron_entry_gets_the_moment_of_its_schedule() -> None:
    job = Job(slot_us=1_700_000_000_000_000)
    job.run("sh", "-c", "echo $MPDISPATCH_SLOT")
    assert job.wire.text(Stream.STDOUT) == "2023-11-14T22:13:20.000000Z\n"


def test_the_mark_by_which_leftovers_are_found_is_passed_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER_VARIABLE, "token.3")
    job.run("sh", "-c", f"echo ${WORKER_VARIABLE}")
    assert job.wire.text(Stream.STDOUT) == "token.3\n"


def test_another_exit_status_than_0_fails_it_with_its_last_word(job: Job) -> None:
    with pytest.raises(CommandFailedError, match=r"^sh: exit status 3: no such page$") as failed:
        job.run("sh", "-c", "echo out; echo 'no such page' >&2; echo >&2; exit 3")
    assert (failed.value.exit_status, failed.value.signal) == (3, None)
    assert job.wire.text(Stream.STDOUT) == "out\n"


def test_a_signal_fails_it(job: Job) -> None:
    with pytest.raises(CommandFailedError, match="was killed by SIGSEGV") as failed:
        job.run("sh", "-c", "kill -SEGV $$")
    assert (failed.value.exit_status, failed.value.signal) == (None, "SIGSEGV")


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["no-such-program-at-all"], 127, "no such program"),
        (["/no/such/file"], 127, "no such file"),
        (["/"], 126, "Permission denied"),
        ([""], 127, "no program"),
    ],
)
def test_a_program_that_cannot_be_started_says_why(job: Job, argv: list[str], status: int, words: str) -> None:
    with pytest.raises(CommandFailedError, match=words) as failed:
        job.run(*argv)
    assert failed.value.exit_status == status


def test_a_folder_that_is_gone_is_named(job: Job) -> None:
    with pytest.raises(CommandFailedError, match="its folder /not/there cannot be entered"):
        job.run("true", cwd="/not/there")


def test_a_flood_costs_few_messages_and_its_end_is_kept(job: Job) -> None:
    code = "import sys\nfor n in range(200_000): sys.stdout.write(f'{n:07d}\\n')"
    job.run(sys.executable, "-c", code)
    assert len(job.wire.pieces) < 100
    assert job.wire.pieces[-1][0] in Stream
    last = [piece for piece in job.wire.pieces if piece[0] is Stream.STDOUT][-1]
    assert last[1].endswith("0199999\n")
    assert last[2] == 1_600_000
    assert all(len(text.encode()) <= KEPT_BYTES for _, text, _ in job.wire.pieces)


def test_bytes_that_are_no_text_and_characters_cut_in_two_are_kept_readable(job: Job) -> None:
    code = "import os, time\nos.write(1, b'\\xff\\x00\\xf0\\x9f')\ntime.sleep(0.1)\nos.write(1, b'\\xa6\\x8a\\xc3')"
    job.run(sys.executable, "-c", code)
    assert job.wire.text(Stream.STDOUT) == "�\0🦊�"


def test_a_stream_nothing_was_written_to_is_empty_not_unknown(job: Job) -> None:
    job.run("true")
    assert {stream for stream, _, _ in job.wire.pieces} == {Stream.STDOUT, Stream.STDERR}
    assert job.wire.text(Stream.STDOUT) == job.wire.text(Stream.STDERR) == ""


def test_a_program_may_be_interrupted_though_the_worker_ignores_it(job: Job) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(CommandFailedError) as failed:
            job.run("sh", "-c", "kill -INT $$; echo goes on")
        assert failed.value.signal == "SIGINT"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_stdin_is_empty(job: Job) -> None:
    job.run("cat")


def test_it_does_not_wait_for_what_the_program_left_in_the_background(job: Job) -> None:
    began = time.monotonic()
    job.run("sh", "-c", "sleep 30 & echo $!")
    assert time.monotonic() - began < 10
    os.kill(int(job.wire.text(Stream.STDOUT)), signal.SIGKILL)


@pytest.fixture
def interrupt() -> Iterator[Callable[[type[BaseException], Callable[[], bool]], None]]:
    """Has the main thread raise this once the program has written, as the worker's signal handler does."""

    def arm(kind: type[BaseException], wrote: Callable[[], bool]) -> None:
        def strike() -> None:
            until(wrote)
            os.kill(os.getpid(), signal.SIGUSR1)

        def raise_it(*_: object) -> None:
            raise kind("now")

        signal.signal(signal.SIGUSR1, raise_it)
        thread.append(threading.Thread(target=strike))
        thread[0].start()

    thread: list[threading.Thread] = []
    before = signal.getsignal(signal.SIGUSR1)
    yield arm
    thread[0].join()
    signal.signal(signal.SIGUSR1, before)


def test_a_timeout_ends_the_whole_group_even_if_it_ignores_sigterm(job: Job, interrupt: Any) -> None:
    script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & echo $$; wait; wait; sleep 60"
    interrupt(JobTimeout, lambda: bool(job.wire.pieces))
    began = time.monotonic()
    with pytest.raises(JobTimeout):
        job.run("sh", "-c", script)
    assert time.monotonic() - began < 5
    for pid in map(int, job.wire.text(Stream.STDOUT).split()):
        until(lambda pid=pid: gone(pid))  # type: ignore[misc]


def test_a_cancel_lets_the_program_end_in_its_own_time_and_keeps_its_last_words(
    job: Job, interrupt: Any
) -> None:
    code = (
        "import os, signal, sys, time\n"
        # Not by print: the signal may come while the other one is still in it.
        "def end(*_):\n    time.sleep(0.3); os.write(1, b'cleaned up\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\nwhile True: time.sleep(1)"
    )
    interrupt(JobCancelled, lambda: bool(job.wire.pieces))
    with pytest.raises(JobCancelled):
        job.run(sys.executable, "-c", code)
    assert job.wire.text(Stream.STDOUT) == "ready\ncleaned up\n"


def test_output_comes_while_the_program_runs(job: Job, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def watch() -> None:
        until(lambda: "first" in job.wire.text(Stream.STDOUT))
        go.touch()

    thread = threading.Thread(target=watch)
    thread.start()
    job.run("sh", "-c", f"echo first; while [ ! -e {go} ]; do sleep 0.01; done; echo second")
    thread.join()
    assert job.wire.text(Stream.STDOUT) == "first\nsecond\n"


# ---------------------------------------------------------------- with a spool


def spooled(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_short_output_travels_in_the_result_and_leaves_no_file(job: Job, tmp_path: Path) -> None:
    result = job.run("sh", "-c", "printf 'a\\r\\né\\0'; echo oops >&2", spool=str(tmp_path))
    assert result == {"exit_status": 0, "stdout": "a\r\né\0", "stderr": "oops\n"}
    assert spooled(tmp_path) == {}
    assert job.wire.pieces == []


@pytest.mark.parametrize("data", [b"x" * (INLINE_BYTES + 1), b"\xff", b"0123456789" * 1_000_000])
def test_long_output_and_what_is_no_text_stays_in_the_spool(job: Job, tmp_path: Path, data: bytes) -> None:
    source, folder = tmp_path / "in", tmp_path / "spool"
    source.write_bytes(data)
    folder.mkdir()
    result = job.run("cat", str(source), spool=str(folder))
    assert result == {"exit_status": 0, "stdout": None, "stderr": ""}
    assert spooled(folder) == {"7.2.stdout": data}
    assert spool_file(str(folder), 7, 2, Stream.STDOUT) == str(folder / "7.2.stdout")


def test_of_a_failed_program_both_files_stay_and_their_ends_are_reported(job: Job, tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match=r"^sh: exit status 3: no such page$"):
        job.run("sh", "-c", "echo out; echo 'no such page' >&2; exit 3", spool=str(tmp_path))
    assert spooled(tmp_path) == {"7.2.stdout": b"out\n", "7.2.stderr": b"no such page\n"}
    assert job.wire.text(Stream.STDERR) == "no such page\n"
    with pytest.raises(CommandFailedError, match="exit status 1"):
        Job().run("false", spool=str(tmp_path))
    assert len(spooled(tmp_path)) == 0  # those of the same start are written anew


def test_without_the_folder_it_fails_and_says_so(job: Job, tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="no file for its output: No such file") as failed:
        job.run("true", spool=str(tmp_path / "gone"))
    assert failed.value.exit_status == 73


def test_a_timeout_keeps_what_was_written_before(job: Job, interrupt: Any, tmp_path: Path) -> None:
    def written() -> bool:
        return b"first\n" in spooled(tmp_path).values()

    interrupt(JobTimeout, written)
    with pytest.raises(JobTimeout):
        job.run("sh", "-c", "echo first; sleep 60", spool=str(tmp_path))
    assert spooled(tmp_path) == {"7.2.stdout": b"first\n"}


def test_its_environment_is_that_of_the_worker_unless_one_is_given(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MINE", "x")
    result = job.run("sh", "-c", "echo $MINE $MPDISPATCH_JOB_ID", env=None, spool=str(tmp_path))
    assert result["stdout"] == "x 7\n"


def test_arguments_may_be_any_bytes(job: Job, tmp_path: Path) -> None:
    result = job.run("printf", "%s", b"\xff\xc3\xa9".decode("latin-1"), is_bytes=True, spool=str(tmp_path))
    assert result["stdout"] is None
    assert spooled(tmp_path) == {"7.2.stdout": b"\xff\xc3\xa9"}


# ---------------------------------------------------------------- who may


def test_no_app_can_take_or_enqueue_the_name() -> None:
    assert check_job_name("commands") == "commands"
    for name in (COMMAND_JOB, "mpdispatch.anything"):
        with pytest.raises(UsageError, match=r"reserved|must not begin"):
            check_job_name(name)
        with pytest.raises(UsageError):
            Registry().get(name)
    with pytest.raises(RegistrationError, match="\\*\\*"):
        JobDefinition(name="x", function=lambda **k: None)


def test_it_is_refused_where_it_is_not_allowed_and_the_reason_says_how_to_allow_it() -> None:
    app = describe(Registry(), store=":memory:", config=Config(), queue_configs=(), backoff=None)
    without = ClaimRequest(queues=("default",), names=catalog.DescribedCatalog(app).names())
    assert "--allow-commands" in (refusal(without, COMMAND_JOB) or "")
    allowed = catalog.DescribedCatalog(app, allow_commands=True)
    with_leave = ClaimRequest(queues=("default",), names=allowed.names())
    assert refusal(with_leave, COMMAND_JOB) is None
    assert COMMAND_JOB not in (refusal(with_leave, "other") or "")
    module, _, function = (allowed.reference_for(COMMAND_JOB) or "").partition(":")
    assert getattr(sys.modules[module], function) is commands.run_command
    assert allowed.reference_for("other") is None
