"""A folder with an app and a store, processes that work on it, and probes. Uses the product by its public face only."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
CLI = [PYTHON, "-m", "mpdispatch"]
TASKS = Path(__file__).with_name("tasks.py")
T = TypeVar("T")


def until(probe: Callable[[], T], what: str, *, within: float = 20.0, every: float = 0.005) -> T:
    """What the probe gives as soon as it is true; fails by name when it does not become so in time."""
    deadline = time.monotonic() + within
    while True:
        if found := probe():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(every)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return state_of(pid) not in ("", "Z", "X")


def state_of(pid: int) -> str:
    """Its letter in /proc, "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [int(c) for t in tasks for c in Path(f"/proc/{pid}/task/{t}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def processes_in(folder: Path) -> list[int]:
    """Pids of processes whose current folder is this one (zombies have none)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                if os.readlink(f"/proc/{entry}/cwd").removesuffix(" (deleted)") == str(folder):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Process:
    """A process of ours with its output in files."""

    def __init__(self, popen: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.popen, self._out, self._err = popen, out, err

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.popen.send_signal(number)

    def ended(self, within: float = 20.0) -> int:
        """Its exit status, waited for."""
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.popen.args} did not end within {within:g} s:\n{self.err[-3000:]}"
            ) from None

    @property
    def workers(self) -> list[int]:
        return children(self.pid)


class Place:
    """One test's folder: `tasks.py`, `jobs.db`, the records. `close()` ends all that runs in it."""

    def __init__(self, folder: Path, source: str | None = None) -> None:
        self.folder = folder
        self.db = folder / "jobs.db"
        (folder / "tasks.py").write_text(TASKS.read_text() if source is None else source)
        self._app: ModuleType | None = None
        self._started: list[Process] = []
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MPDISPATCH_")}
        self.env = {**clean, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    # ------------------------------------------------------------------ processes

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None, **popen: Any) -> Process:
        number = len(self._started)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        with out.open("wb") as o, err.open("wb") as e:
            started = subprocess.Popen(
                list(argv),
                cwd=self.folder,
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=o,
                stderr=e,
                **popen,
            )
        process = Process(started, out, err)
        self._started.append(process)
        return process

    def supervise(self, *args: str, app: str = "tasks:engine", **env: object) -> Process:
        """A supervisor; keywords are settings (`heartbeat_interval=0.3`)."""
        settings = {f"MPDISPATCH_{key.upper()}": str(value) for key, value in env.items()}
        return self.start([*CLI, "supervise", app, *args], settings)

    def supervising(self, *args: str, app: str = "tasks:engine", **env: object) -> Process:
        """As `supervise`, and its start is over: it ran a job, and the first worker has given way to a fork.

        So a worker that has nothing to do stays the same from here on.
        """
        process = self.supervise(*args, app=app, **env)
        first = self.complete(self.app.plain.enqueue().id).worker_pid
        until(lambda: not is_alive(first), "a fork for the first worker")
        return process

    def cli(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: str = "", within: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *args],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within,
        )

    def python(self, code: str, *args: str, within: float = 60.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYTHON, *(["-c", code] if code else []), *args],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
        )

    def json(self, *args: str) -> Any:
        done = self.cli(*args, "--json", "--store", "jobs.db")
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def drain(self, *args: str, within: float = 60.0, **env: object) -> int:
        """Run `supervise --drain` to its end; gives its exit status."""
        return self.supervise("--drain", *args, **env).ended(within)

    # ------------------------------------------------------------------ jobs

    @property
    def app(self) -> Any:
        """The app module, imported here as any client would."""
        if self._app is None:
            spec = importlib.util.spec_from_file_location("tasks", self.folder / "tasks.py")
            assert spec is not None
            assert spec.loader is not None
            self._app = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self._app)
        return self._app

    def job(self, job_id: int) -> Any:
        return self.app.engine.get_job(job_id)

    def counts(self) -> dict[str, int]:
        return {str(state): count for state, count in self.app.engine.counts().items()}

    def unended(self) -> int:
        counts = self.counts()
        return sum(counts.get(s, 0) for s in ("scheduled", "pending", "running", "retrying"))

    def complete(self, job_id: int, within: float = 20.0) -> Any:
        """The job, once it has completed."""
        return self.ended(job_id, "completed", within=within)

    def ended(self, job_id: int, state: str | None = None, within: float = 20.0) -> Any:
        """The job, once it has ended (in that state)."""
        terminal = ("completed", "failed", "cancelled")
        until(lambda: self.job(job_id).state in terminal, f"job {job_id} ends", within=within, every=0.002)
        job = self.job(job_id)
        assert state is None or str(job.state) == state, job
        return job

    def show(self, job_id: int) -> Any:
        """The job with its attempts."""
        return self.json("show", str(job_id))

    # ------------------------------------------------------------------ the records

    @property
    def records(self) -> list[tuple[str, int, int, int, int]]:
        """(start or end, job id, token, pid, boottime ns), in the order written."""
        path = self.folder / "records"
        rows = []
        for line in path.read_text().splitlines() if path.exists() else ():
            what, job_id, token, pid, at = line.split()
            rows.append((what, int(job_id), int(token), int(pid), int(at)))
        return rows

    def starts_of(self, job_id: int) -> list[tuple[str, int, int, int, int]]:
        return [row for row in self.records if row[0] == "start" and row[1] == job_id]

    def started(self, job_id: int, times: int = 1, within: float = 20.0) -> tuple[str, int, int, int, int]:
        """The row of that start, once it is there."""
        until(lambda: len(self.starts_of(job_id)) >= times, f"start {times} of job {job_id}", within=within)
        return self.starts_of(job_id)[times - 1]

    # ------------------------------------------------------------------ the store, from outside

    def sql(self, *statements: str) -> list[Any]:
        """Run SQL in a process of its own (never two SQLites on one file in one process); the last one's rows."""
        code = (
            "import json, sys, sqlite3\n"
            "c = sqlite3.connect('jobs.db', isolation_level=None, timeout=30)\n"
            "for s in sys.argv[1:]: rows = c.execute(s).fetchall()\n"
            "print(json.dumps(rows))"
        )
        done = self.python(code, *statements)
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)
        assert isinstance(rows, list)
        return rows

    def hold_write_lock(self) -> Process:
        """A foreign writer inside BEGIN IMMEDIATE, until it is killed. Returns once it has the lock."""
        code = (
            "import sqlite3, time\n"
            "c = sqlite3.connect('jobs.db', isolation_level=None, timeout=30)\n"
            "c.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\ntime.sleep(300)"
        )
        holder = self.start([PYTHON, "-c", code])
        until(lambda: "held" in holder.out, "the foreign writer has the lock")
        return holder

    def assert_sound(self) -> None:
        assert self.sql("PRAGMA integrity_check") == [["ok"]]
        assert self.sql("PRAGMA foreign_key_check") == []

    # ------------------------------------------------------------------ the end

    def left_over(self) -> list[int]:
        return processes_in(self.folder)

    def close(self) -> None:
        for process in self._started:
            if process.popen.poll() is None:
                process.kill(signal.SIGCONT)
                process.kill()
            process.popen.wait()
        for pid in processes_in(self.folder):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


class Terminal:
    """A supervisor as the foreground job of a terminal."""

    def __init__(self, place: Place, argv: Sequence[str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(place.folder)
                os.execve(argv[0], list(argv), place.env)
            finally:
                os._exit(127)
        os.set_blocking(self._fd, False)
        self.text = ""

    def read(self) -> str:
        try:
            while chunk := os.read(self._fd, 65536):
                self.text += chunk.decode(errors="replace")
        except (BlockingIOError, OSError):
            pass
        return self.text

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def ended(self, within: float = 20.0) -> int:
        def probe() -> tuple[int, int] | None:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (pid, status) if pid else None

        _, status = until(probe, "the terminal's process ends", within=within)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def hang_up(self) -> None:
        """Close the terminal's other end."""
        os.close(self._fd)
        self._fd = -1


def overlaps(rows: Iterable[tuple[str, int, int, int, int]], deaths: Mapping[int, int]) -> list[str]:
    """Pairs of executions of one job that ran at the same time. `deaths`: pid -> boottime ns known dead by then."""
    spans: dict[tuple[int, int, int], list[int | None]] = {}
    for what, job_id, token, pid, at in rows:
        span = spans.setdefault((job_id, token, pid), [None, None])
        span[0 if what == "start" else 1] = at
    by_job: dict[int, list[tuple[int, int, int, int]]] = {}
    for (job_id, token, pid), (start, end) in spans.items():
        assert start is not None, f"job {job_id} start {token} ended without a start"
        by_job.setdefault(job_id, []).append((start, end or deaths.get(pid, 0), token, pid))
    found = []
    for job_id, runs in by_job.items():
        runs.sort()
        for (_, end, token, pid), (start, _, next_token, next_pid) in pairwise(runs):
            if end > start:
                found.append(
                    f"job {job_id}: start {token} (pid {pid}) until {end}, {next_token} ({next_pid}) at {start}"
                )
    return found
