"""`mpdispatch map` as people use it: real programs, real kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from mpdispatch.cli.map.joblog import HEADER, parse_joblog
from mpdispatch.model import JobState
from mpdispatch.store import SQLiteStore
from mpdispatch.store.filters import JobFilter, PruneFilter

from .conftest import ROOT

MAP = [sys.executable, "-m", "mpdispatch", "map"]


class Maps:
    """Runs maps in a folder; their state is beside it."""

    def __init__(self, folder: Path) -> None:
        self.here, self.state = folder / "here", folder / "state"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.here.mkdir()
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
        self.env = {**clean, "PYTHONPATH": ROOT, "XDG_STATE_HOME": str(self.state)}

    def start(self, *args: str, **more: Any) -> subprocess.Popen[bytes]:
        kinds = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen([*MAP, *args], cwd=self.here, env=self.env, **kinds)
        self.processes.append(process)
        return process

    def __call__(self, *args: str, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
        process = self.start(*args, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=100)
        assert process.returncode == code, err
        return os.fsdecode(out), os.fsdecode(err)

    def store(self) -> SQLiteStore:
        (path,) = self.state.glob("mpdispatch/map/*/jobs.db")
        return SQLiteStore(path)

    def left(self) -> list[str]:
        """What maps have left beside the store, besides its own files."""
        return sorted(str(path.name) for path in self.state.glob("mpdispatch/map/*/jobs.db-mpd/map-*"))


@pytest.fixture
def maps(tmp_path: Path) -> Iterator[Maps]:
    made = Maps(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def until(claim: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
    return found


# ---------------------------------------------------------------- outputs


def test_outputs_are_printed_in_the_order_of_the_inputs_and_nothing_is_left(maps: Maps) -> None:
    script = 'if [ "$1" = 1 ]; then sleep 0.7; fi; echo "$1"; echo "$2"'
    out, err = maps("-j", "4", "sh", "-c", script, "sh", "{}", "{.} {#}", ":::", "1", "2.x", "3", "a b")
    assert out == "1\n1 1\n2.x\n2 2\n3\n3 3\na b\na b 4\n"
    assert err == ""
    assert maps.left() == []
    assert list(maps.here.iterdir()) == []


def test_unordered_outputs_come_as_jobs_end(maps: Maps) -> None:
    script = 'if [ "$1" = slow ]; then until [ -e go ]; do sleep 0.01; done; fi; echo $1'
    process = maps.start("-j2", "--unordered", "sh", "-c", script, "sh", ":::", "slow", "quick")
    assert process.stdout is not None
    assert process.stdout.readline() == b"quick\n"
    (maps.here / "go").touch()
    assert process.stdout.read() == b"slow\n"
    assert process.wait(20) == 0


def test_inputs_are_no_shell_text(maps: Maps) -> None:
    odd = ["a b", "$(touch owned)", "`id`", "*", "'", '"', "\\", "; exit 3", "-n", "", "é\n"]
    out, _ = maps("printf [%s]", "-0", stdin="\0".join([*odd, ""]).encode())
    assert out == "".join(f"[{each}]" for each in odd)
    assert list(maps.here.iterdir()) == []


def test_names_that_are_no_utf8_reach_the_program(maps: Maps) -> None:
    name = os.fsdecode(b"\xff\xc3\xa9.txt")
    (maps.here / name).write_text("found\n")
    assert maps("cat {}", ":::", name)[0] == "found\n"
    assert maps("--dry-run", "cat {}", ":::", name)[0] == f"cat '{name}'\n"


def test_a_folder_that_is_no_utf8_and_a_locale_without_it(maps: Maps) -> None:
    maps.here = maps.here / os.fsdecode(b"\xff")
    maps.here.mkdir()
    maps.env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out, err = maps("sh", "-c", 'printf %s "$0"; touch here; echo x >&2; exit 1', ":::", "é", code=1)
    assert (out, (maps.here / "here").exists()) == ("é", True)
    assert "é: x\n" in err


def test_lines_of_stdin_and_files_are_inputs(maps: Maps) -> None:
    (maps.here / "list").write_text("a\nb c\n")
    assert maps("echo {#}", "-", stdin=b"x\ny\n")[0] == "1\n2\n"
    assert maps("echo", stdin=b"x\n")[0] == "x\n"
    assert maps("-0", "echo", "{}", stdin=b"x\0y z\0")[0] == "x\ny z\n"
    assert maps("-a", "list", "echo {}")[0] == "a\nb c\n"
    assert maps("echo {2}-{1}", "::::", "list", ":::", "1", "2")[0] == "1-a\n2-a\n1-b c\n2-b c\n"
    assert maps("echo", ":::") == ("", "")


@pytest.mark.parametrize("size", [5_000, 30_000_000])
def test_output_of_any_size_is_printed_whole(maps: Maps, size: int) -> None:
    out, err = maps("-j2", "sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x; echo $0", ":::", "a", "b")
    assert out == ("x" * size + "a\n") + ("x" * size + "b\n")
    assert err == ""
    assert maps.left() == []


def test_stderr_has_the_input_before_each_line(maps: Maps) -> None:
    out, err = maps("sh", "-c", "echo out; echo one >&2; printf two >&2", ":::", "a b", "c")
    assert out == "out\nout\n"
    assert err == "a b: one\na b: two\nc: one\nc: two\n"


def test_programs_have_this_environment_and_an_empty_stdin(maps: Maps) -> None:
    maps.env["OF_MINE"] = "x y"
    assert maps("sh", "-c", 'cat; echo "$OF_MINE"; pwd', ":::", "a")[0] == f"x y\n{maps.here}\n"


def test_as_gnu_parallel_does(maps: Maps) -> None:
    if which("parallel") is None:
        pytest.skip("GNU parallel is not installed")
    inputs = [f"dir {n}/file {n % 7}.tar.gz" for n in range(60)]
    lines = "\n".join([*inputs, ""]).encode()
    for words in (
        ["echo", "{}", "{.}", "{/}", "{//}", "{/.}", "{#}"],
        ["printf", "%s|"],
        ["expr", "1", "+", "{#}"],
    ):
        theirs = subprocess.run(
            ["parallel", "-q", "-k", "-j2", *words],
            input=lines,
            capture_output=True,
            env={**maps.env, "HOME": str(maps.here)},
        )
        assert maps("-j2", *words, "-", stdin=lines)[0] == theirs.stdout.decode()


# ---------------------------------------------------------------- failures


def test_failed_jobs_are_a_table_and_exit_1(maps: Maps) -> None:
    script = 'echo out $1; case $1 in bad) echo "no such page" >&2; exit 3;; killed) kill -9 $$;; esac'
    out, err = maps("-j2", "sh", "-c", script, "sh", ":::", "good", "bad", "killed", code=1)
    assert out == "out good\nout bad\nout killed\n"
    assert err.splitlines() == [
        "bad: no such page",
        "input   ended    attempts  last line of stderr",
        "bad     exit 3   1         no such page",
        "killed  SIGKILL  1",
        "mpdispatch: 2 of 3 jobs failed",
    ]
    assert maps.left() == []


def test_a_joblog_is_that_of_gnu_parallel(maps: Maps) -> None:
    maps("-j1", "--joblog", "log", "sh", "-c", "echo 12345; exit $0", ":::", "0", "7", code=1)
    lines = (maps.here / "log").read_text().splitlines()
    assert lines[0] == "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
    found = parse_joblog(lines)
    assert {n: (line.exit_status, line.received_bytes) for n, line in found.items()} == {1: (0, 6), 2: (7, 6)}
    assert found[2].command == "sh -c 'echo 12345; exit $0' 7"
    assert abs(found[2].started_s - time.time()) < 60


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_a_joblog_may_be_a_pipe_that_is_not_read_from(maps: Maps, options: Sequence[str]) -> None:
    out, err = maps(*options, "--joblog", "/dev/stderr", "echo", ":::", "a", "b")
    assert out == "a\nb\n"
    assert sorted(parse_joblog(err.splitlines())) == [1, 2]
    os.mkfifo(maps.here / "fifo")
    process = maps.start(*options, "--joblog", "fifo", "echo", ":::", "b")
    assert sorted(parse_joblog((maps.here / "fifo").read_text().splitlines())) == [1]
    assert process.wait(20) == 0


def test_a_joblog_that_is_not_read_any_more_ends_it_with_an_error(maps: Maps) -> None:
    os.mkfifo(maps.here / "fifo")
    command = ["sh", "-c", "until [ -e go ]; do sleep 0.01; done; echo $0", ":::", "b"]
    process = maps.start("--joblog", "fifo", *command)
    with (maps.here / "fifo").open() as fifo:
        assert fifo.readline() == f"{HEADER}\n"
    (maps.here / "go").touch()
    assert process.communicate(timeout=20) == (
        b"",
        b"mpdispatch: --joblog: fifo cannot be written: Broken pipe\n",
    )
    assert process.returncode == 74
    assert maps("--resume", *command)[0] == "b\n"


def test_a_joblog_on_a_full_disk_is_refused(maps: Maps) -> None:
    assert (
        "/dev/full cannot be written: No space left"
        in maps("--joblog", "/dev/full", "echo", ":::", "a", code=2)[1]
    )


@pytest.mark.parametrize("options", [[], ["--resume"]])
@pytest.mark.parametrize("text", ["my thesis\n", "x", f"{HEADER}x\n"])
def test_a_file_that_is_no_joblog_is_kept(maps: Maps, options: Sequence[str], text: str) -> None:
    maps("echo", ":::", "a")
    file = maps.here / "thesis"
    file.write_text(text)
    assert "thesis is not empty" in maps(*options, "--joblog", "thesis", "echo", ":::", "a", code=2)[1]
    assert file.read_text() == text
    assert sum(maps.store().counts().values()) == 1


def test_a_joblog_is_written_anew_or_gone_on_with(maps: Maps) -> None:
    def lines() -> list[str]:
        return (maps.here / "log").read_text().splitlines()

    (maps.here / "log").touch()
    maps("--joblog", "log", "echo", ":::", "a", "b")
    first = lines()
    assert [len(first), first[0]] == [3, HEADER]
    maps("--resume", "--joblog", "log", "echo", ":::", "a", "b")
    assert lines() == first
    maps("--joblog", "log", "echo", ":::", "c")
    assert [len(lines()), lines()[0]] == [2, HEADER]


@pytest.mark.parametrize("lists", [["-a", "./list", "echo"], ["echo", "::::", "list"]])
def test_a_file_of_inputs_is_no_joblog(maps: Maps, lists: Sequence[str]) -> None:
    for text in ("", "a\n", f"{HEADER}\n"):
        (maps.here / "list").write_text(text)
        assert "list is a file of inputs, too" in maps("--joblog", "list", *lists, code=2)[1]
        assert (maps.here / "list").read_text() == text
    assert not maps.state.exists()


def test_retries_and_timeouts(maps: Maps) -> None:
    script = 'echo "$1 $MPDISPATCH_ATTEMPT"; [ $MPDISPATCH_ATTEMPT = 2 ]'
    assert maps("--retries", "1", "sh", "-c", script, "sh", ":::", "a")[0] == "a 2\n"
    began = time.monotonic()
    out, err = maps(
        "--timeout", "0.3", "--joblog", "log", "sh", "-c", "echo begun; sleep 60", ":::", "a", code=1
    )
    assert time.monotonic() - began < 20
    assert out == "begun\n"
    assert "a      timeout  1" in err
    assert parse_joblog((maps.here / "log").read_text().splitlines())[1].exit_status == -1


@pytest.mark.parametrize(
    ("rule", "code", "out"),
    [
        ("now,fail=1", 1, "1\n2\n"),
        ("soon,fail=1", 1, "1\n2\n"),
        ("now,success=1", 0, "1\n"),
        ("now,done=2", 1, "1\n2\n"),
    ],
)
def test_a_halt_ends_it_early_and_resume_goes_on(maps: Maps, rule: str, code: int, out: str) -> None:
    command = ["sh", "-c", "[ $0 = 3 ] && [ ! -e go ] && sleep 2; echo $0; [ $0 != 2 ]", ":::", *"123456"]
    printed, err = maps("-j1", "--halt", rule, *command, code=code)
    assert printed.startswith(out)
    assert "--resume goes on" in err
    (maps.here / "go").touch()
    # What ended before does not count for a halt.
    rest, err = maps("-j1", "--resume", "--halt", "now,fail=2", *command, code=1)
    assert printed + rest == "1\n2\n3\n4\n5\n6\n"
    assert "1 of 6 jobs failed" in err
    assert maps.left() == []


@pytest.mark.parametrize("inputs", ["10", "100"])
def test_a_success_that_halts_it_decides_the_exit_code(maps: Maps, inputs: str) -> None:
    # Whether any inputs are left then or not.
    _, err = maps("-j1", "--halt", "now,success=1", "sh", "-c", "exit $0", ":::", *inputs, code=0)
    assert f"1 of {len(inputs)} jobs failed" in err


def test_resume_failed_runs_failed_jobs_again(maps: Maps) -> None:
    command = ["sh", "-c", "echo $0; [ -e go ] || [ $0 = a ]", ":::", "a", "b", "c"]
    assert maps(*command, code=1)[0] == "a\nb\nc\n"
    out, err = maps("--resume", *command, code=1)
    assert (out, "2 of 3 jobs failed" in err) == ("", True)
    (maps.here / "go").touch()
    assert maps("--resume-failed", *command) == ("b\nc\n", "")
    assert maps("--resume", *command) == ("", "")


# ---------------------------------------------------------------- ends that nobody wants


def _numbers(out: Path) -> list[int]:
    return [int(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("kills", [[1], [100], [30, 60, 90]])
@pytest.mark.parametrize("order", ["--keep-order", "--unordered"])
def test_after_a_kill_resume_prints_each_output_exactly_once(
    maps: Maps, kills: Sequence[int], order: str
) -> None:
    inputs = [str(n) for n in range(150)]
    script = "echo $0 >> began; sleep 0.0$(($0 % 4)); echo $0; [ $(($0 % 50)) != 7 ]"
    command = ["--resume", "-j2", order, "--joblog", "log", "sh", "-c", script, ":::", *inputs]
    out = maps.here / "out"
    with out.open("ab") as file:
        for count in kills:
            process = maps.start(*command, stdout=file)
            until(lambda count=count: len(_numbers(out)) >= count)  # type: ignore[misc]
            process.kill()
            process.wait()
            # Later, one that was cut off may hold up the outputs of all others, and then they come at once.
            assert count > kills[0] or len(_numbers(out)) < len(inputs)
        last = maps.start(*command, stdout=file)
        _, err = last.communicate(timeout=60)
    assert last.returncode == 1
    assert err.endswith(b"3 of 150 jobs failed\n")
    printed = _numbers(out)
    assert sorted(printed) == list(range(150))
    if order == "--keep-order":
        assert printed == list(range(150))
    # Only what was running ran again.
    assert len((maps.here / "began").read_text().splitlines()) <= 150 + 2 * len(kills)
    assert sorted(parse_joblog((maps.here / "log").read_text().splitlines())) == list(range(1, 151))
    assert maps.left() == []


def test_a_killed_map_leaves_long_outputs_to_resume(maps: Maps) -> None:
    script = "head -c 200000 /dev/zero | tr '\\0' $0; [ $0 = a ] && until [ -e go ]; do sleep 0.01; done; echo"
    command = ["-j2", "sh", "-c", script, ":::", "a", "b", "c"]
    process = maps.start(*command)
    until(
        lambda: (
            sum(p.stat().st_size == 200_001 for p in maps.state.glob("mpdispatch/map/*/*/map-*/spool/*")) == 2
        )
    )
    process.kill()
    assert process.communicate() == (b"", b"")
    (maps.here / "go").touch()
    assert maps("--resume", *command)[0] == "".join(c * 200_000 + "\n" for c in "abc")


@pytest.mark.parametrize(
    ("point", "goes_on_with"), [("enqueue.before_commit", "old"), ("enqueue.after_commit", "new")]
)
def test_a_kill_in_the_start_of_a_new_map_loses_no_output(maps: Maps, point: str, goes_on_with: str) -> None:
    script = "cat age; echo $0; echo $0 >> began; until [ $0 != 1 ] || [ -e go ]; do sleep 0.01; done"
    command = ["-j2", "sh", "-c", script, ":::", "1", "2", "3"]
    (maps.here / "age").write_text("old\n")
    first = maps.start(*command)
    until((maps.here / "began").exists)
    until(lambda: maps.store().counts()[JobState.COMPLETED] == 2)
    first.kill()
    assert first.communicate()[0] == b""
    maps.env |= {"TESTS_OF_MPDISPATCH": "1", "MPDISPATCH_FAILPOINTS": f"{point}:kill"}
    assert maps(*command, code=-signal.SIGKILL) == ("", "")
    del maps.env["MPDISPATCH_FAILPOINTS"]
    for name in ("age", "go"):
        (maps.here / name).write_text("new\n")
    out = maps("--resume", *command)[0]
    ages = {"old": ("new", "old", "old"), "new": ("new", "new", "new")}[goes_on_with]
    assert out == "".join(f"{age}\n{number}\n" for number, age in enumerate(ages, 1))
    assert maps.store().counts()[JobState.PENDING] == 0
    # Jobs of the map that was given up do not run again.
    assert (
        sorted((maps.here / "began").read_text().split())
        == {
            "old": ["1", "1", "2", "3"],
            "new": ["1", "1", "2", "2", "3", "3"],
        }[goes_on_with]
    )
    assert maps("--resume", *command) == ("", "")
    assert maps.left() == []


@pytest.mark.parametrize("deleted", [JobState.COMPLETED, JobState.FAILED, None])
def test_a_map_whose_jobs_were_deleted_does_not_begin_anew(maps: Maps, deleted: JobState | None) -> None:
    script = "echo $0 >> began; echo $0; [ -e go ] || [ $0 != b ]"
    command = ["-j1", "sh", "-c", script, ":::", "a", "b", "c"]
    maps(*command, code=1)
    (maps.here / "go").touch()
    maps("--resume-failed", *command)  # another job takes the place of that of b
    maps.store().prune(PruneFilter(state=deleted, keep=1 if deleted is JobState.COMPLETED else 0))
    began = (maps.here / "began").read_text()
    if deleted is not None:
        for option in ("--resume", "--resume-failed"):
            out, err = maps(option, *command, code=2)
            assert out == ""
            assert "jobs are not there any more. Without --resume" in err
        assert (maps.here / "began").read_text() == began
        assert "2 of its 3 jobs" in err or deleted is JobState.FAILED
        assert maps(*command)[0] == "a\nb\nc\n"
    else:
        assert maps("--resume", *command)[0] == "a\nb\nc\n"  # there is no trace of it


def test_a_map_that_had_not_ended_and_whose_jobs_were_all_deleted_does_not_begin_anew(maps: Maps) -> None:
    command = ["-j1", "--halt", "soon,done=1", "sh", "-c", "sleep 0.1; echo $0", ":::", "a", "b", "c"]
    maps(*command)
    store = maps.store()
    store.batches.cancel(store.list_jobs(JobFilter(), limit=1, cursor=None).items[0].batch_id or 0)
    store.prune(PruneFilter(keep=0))
    assert store.list_jobs(JobFilter(), limit=1, cursor=None).items == []
    assert "its jobs are not there any more" in maps("--resume", *command, code=2)[1]


def test_ctrl_c_ends_it_quickly_and_says_how_to_go_on(maps: Maps) -> None:
    command = [
        "-j2",
        "sh",
        "-c",
        "touch began.$0; [ $0 = 1 ] || [ -e go ] || sleep 60; echo $0",
        ":::",
        "1",
        "2",
        "3",
        "4",
    ]
    process = maps.start(*command)
    until(lambda: len(list(maps.here.glob("began.*"))) == 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out == b"1\n"
    assert err == b"mpdispatch: interrupted: 1 of 4 jobs have ended; the same command with --resume goes on\n"
    (maps.here / "go").touch()
    assert maps("--resume", *command) == ("2\n3\n4\n", "")


def test_a_second_ctrl_c_ends_it_at_once(maps: Maps) -> None:
    process = maps.start(
        "sh", "-c", "trap '' TERM; sleep 0.5; touch began; while :; do sleep 0.05; done", ":::", "1"
    )
    until((maps.here / "began").exists)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)  # while it waits for the program, which does not end
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(3) == 130


def test_sigterm_ends_it_as_ctrl_c_does(maps: Maps) -> None:
    process = maps.start("sh", "-c", "touch began; sleep 60", ":::", "1")
    until((maps.here / "began").exists)
    process.terminate()
    assert b"interrupted: 0 of 1 jobs have ended" in process.communicate(timeout=10)[1]
    assert process.returncode == 143


def test_a_reader_that_goes_ends_it_quietly(maps: Maps) -> None:
    process = maps.start("-j2", "sh", "-c", "sleep 0.0$(($0 % 3)); echo $0", ":::", *map(str, range(500)))
    assert process.stdout is not None
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_a_reader_that_goes_is_noticed_while_no_job_ends(maps: Maps) -> None:
    process = maps.start("-j2", "sh", "-c", "echo $0; [ $0 = a ] || { touch slow; sleep 60; }", ":::", "a", "b")
    assert process.stdout is not None
    assert process.stdout.readline() == b"a\n"
    until((maps.here / "slow").exists)
    process.stdout.close()
    assert process.wait(20) == 141


def test_a_new_run_gives_the_old_one_up(maps: Maps) -> None:
    command = ["-j1", "sh", "-c", "echo $0 >> began; [ -e go ] || sleep 60; echo $0", ":::", "1", "2"]
    process = maps.start(*command)
    until((maps.here / "began").exists)
    process.kill()
    process.wait()
    (maps.here / "go").touch()
    assert maps(*command)[0] == "1\n2\n"
    assert (maps.here / "began").read_text() == "1\n1\n2\n"
    assert maps.store().counts()[JobState.PENDING] == 0


def test_the_same_map_twice_at_once_is_refused(maps: Maps) -> None:
    command = ["sh", "-c", "touch began; until [ -e go ]; do sleep 0.01; done", ":::", "1"]
    process = maps.start(*command)
    until((maps.here / "began").exists)
    assert "another process is at work" in maps(*command, code=2)[1]
    (maps.here / "go").touch()
    assert process.wait(20) == 0


# ---------------------------------------------------------------- where and how


def test_jobs_are_members_of_a_batch_in_a_named_store(maps: Maps) -> None:
    maps("--store", "my.db", "echo {}", ":::", "a", "b")
    store = SQLiteStore(maps.here / "my.db")
    jobs = store.list_jobs(JobFilter(), limit=10, cursor=None).items
    assert len({job.batch_id for job in jobs}) == 1
    batch = store.batches.get(jobs[0].batch_id or 0)
    assert (batch.name, batch.total, batch.counts[JobState.COMPLETED]) == ("map echo {}", 2, 2)
    assert batch.ended_at is not None
    assert not maps.state.exists()
    assert sorted(path.name for path in (maps.here / "my.db-mpd").glob("map-*")) == []


def test_a_dry_run_prints_the_commands_and_makes_nothing(maps: Maps) -> None:
    out, _ = maps("--dry-run", "cp {} {.}.bak", ":::", "a b.c", "it's")
    assert out == "cp 'a b.c' 'a b.bak'\ncp 'it'\"'\"'s' 'it'\"'\"'s.bak'\n"
    assert not maps.state.exists()


@pytest.mark.parametrize("closed", [">&-", ">&- <&-"])
def test_a_closed_stdout_is_printed_to_in_vain(maps: Maps, closed: str) -> None:
    for options in (["--dry-run"], [], ["--resume"]):
        line = ["sh", "-c", f'exec "$@" {closed}', "sh", *MAP, *options, "sh", "-c", "echo $0; echo $0 >> ran"]
        done = subprocess.run([*line, ":::", "a"], cwd=maps.here, env=maps.env, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (maps.here / "ran").read_text() == "a\n"


def test_a_bar_is_drawn_if_asked_for(maps: Maps) -> None:
    _, err = maps("--bar", "-j1", "sleep", ":::", "0.3", "0.3", "0.3")
    assert "/3" in err and "ETA" in err  # noqa: PT018
    assert err.endswith("\r\x1b[K")
    assert maps("-j1", "true", ":::", "a") == ("", "")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["-j", "0", "echo", ":::", "a"], "'-j'"),
        (["-j", "-3", "echo", ":::", "a"], "'-j'"),
        (["-j", "x", "echo", ":::", "a"], "'-j'"),
        (["--retries", "-1", "echo", ":::", "a"], "--retries"),
        (["--timeout", "-1", "echo", ":::", "a"], "--timeout"),
        (["--timeout", "0", "echo", ":::", "a"], "--timeout"),
        (["--halt", "later", "echo", ":::", "a"], "now or soon"),
        (["", ":::", "a"], "template: it is empty"),
        ([":::", "a"], "template: it is empty"),
        (["echo {%}", ":::", "a"], "{%}"),
        (["echo {3}", ":::", "a", ":::", "b"], "list 3"),
        (["echo 'a", ":::", "a"], "quot"),
        (["no-such-program-at-all {}", ":::", "a"], "no program 'no-such-program-at-all' on PATH"),
        (["./here.sh", ":::", "a"], "no program './here.sh'"),
        (["-a", "not-there", "echo"], "not-there cannot be read"),
        (["echo", "::::", "."], ". cannot be read"),
        (["echo", "::::"], ":::: needs a file"),
        (["echo", ":::", "a", ":::+", "b"], ":::+"),
        (["--joblog", "no/such/folder", "echo", ":::", "a"], "no/such/folder cannot be written"),
        (["--json", "echo", ":::", "a"], "--json"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_is_refused_at_once_and_nothing_is_enqueued(
    maps: Maps, args: Sequence[str], says: str
) -> None:
    out, err = maps(*args, code=2)
    assert says in err
    assert out == ""
    assert not list(maps.state.glob("mpdispatch/map/*/jobs.db")) or not any(maps.store().counts().values())


def test_a_nul_in_a_line_is_named(maps: Maps) -> None:
    assert "line 2 of stdin has a NUL" in maps("echo", "-", stdin=b"a\nb\0c\n", code=2)[1]


def test_a_hundred_thousand_inputs_take_seconds(maps: Maps) -> None:
    lines = "".join(f"some/folder/of/mine/{n}.jpg\n" for n in range(100_000)).encode()
    began = time.monotonic()
    _, err = maps("-j1", "--halt", "now,done=1", "true", "-", stdin=lines, code=0)
    assert time.monotonic() - began < 30
    assert "of 100,000 jobs have ended" in err


def test_programs_that_leave_processes_behind_do_not_hold_it_up(maps: Maps) -> None:
    out, _ = maps("sh", "-c", "sleep 60 & echo $!", ":::", "a")
    until(lambda: not Path(f"/proc/{int(out)}").exists())


def test_results_hold_short_outputs(maps: Maps) -> None:
    maps("echo", ":::", "a")
    assert maps.store().get(1).result == {"exit_status": 0, "stdout": "a\n", "stderr": ""}
    assert json.loads(json.dumps(maps.store().get(1).payload))["argv"] == ["echo", "a"]
