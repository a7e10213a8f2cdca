"""A folder with an app, a store on a server, and hosts whose supervisors run its jobs."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mpdispatch import Engine
from tests.hosts.judge import Note, Run, crowds, notes_in, overlaps, runs_of
from tests.hosts.network import Host, HostProcess, Network, pid_on_host
from tests.servers.fixtures import Place
from tests.whole.harness import ROOT, until

TASKS = Path(__file__).with_name("tasks.py")
CLI = [sys.executable, "-m", "mpdispatch"]
T = TypeVar("T")
HEARTBEAT_S, THRESHOLD_S = 0.3, 2.0


class Yard:
    """One test's hosts. `close()` ends all that runs on them."""

    def __init__(self, folder: Path, network: Network, local: Place, remote: Place) -> None:
        """`local`: the store as this process reaches it, by a socket; `remote`: as hosts do, by TCP."""
        self.folder, self.kind, self._network = folder, local.kind, network
        self.location = remote.location
        """As hosts open the store. A test may put a proxy there."""
        self._local, self._tags = local.location, 0
        (folder / "tasks.py").write_text(TASKS.read_text())
        self._offsets: dict[str, int] = {}

    @cached_property
    def app(self) -> Any:
        """The app module, as a client on this machine has it."""
        return self.app_at(self._local)

    def app_at(self, location: str) -> Any:
        """The app module, as a client has it that reaches the store so."""
        spec = importlib.util.spec_from_file_location("tasks", self.folder / "tasks.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("YARD_STORE", location)
            spec.loader.exec_module(module)
        return module

    @property
    def engine(self) -> Engine:
        engine: Engine = self.app.engine
        return engine

    def host(self, name: str, *, like: Host | None = None) -> Host:
        made = self._network.host(name, like=like)
        self._offsets[name] = made.offset_ns
        return made

    # -- programs -------------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MPDISPATCH_")}
        ours = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "YARD_STORE": self.location}
        return {**clean, **ours, "MPDISPATCH_STORE": self.location}

    def supervise(self, host: Host, *args: str, **settings: object) -> HostProcess:
        """A supervisor on this host; keywords are settings."""
        given = {"heartbeat_interval": HEARTBEAT_S, "stale_job_threshold": THRESHOLD_S, **settings}
        env = {f"MPDISPATCH_{name.upper()}": str(value) for name, value in given.items()}
        self._tags += 1
        argv = [*CLI, "supervise", "tasks:engine", "-c", "2", *args]
        return host.start(argv, folder=self.folder, env={**self.env, **env}, tag=f"{host.name}-{self._tags}")

    def supervising(self, host: Host, *args: str, **settings: object) -> HostProcess:
        """As `supervise`, and it is registered."""
        process = self.supervise(host, *args, **settings)
        until(
            lambda: any(
                each.host == host.name and each.pid == pid_on_host(process.pid) for each in self.peers()
            ),
            f"a supervisor on {host.name}: {process.err[-2000:]}",
        )
        return process

    def peers(self) -> Sequence[Any]:
        return self.engine.store.supervisors()

    def cli(self, host: Host, *args: str, code: int = 0) -> str:
        """What a command prints on this host."""
        done = host.run([*CLI, *args], folder=self.folder, env=self.env)
        assert done.returncode == code, done
        return done.stdout

    def json(self, host: Host, *args: str) -> Any:
        return json.loads(self.cli(host, *args, "--json"))

    def until(self, probe: Callable[[], T], what: str, *, within: float = 20.0) -> T:
        """As `harness.until`; what the programs have said goes with the failure."""
        try:
            return until(probe, what, within=within)
        except AssertionError as error:
            said = [f"{each.name}:\n{each.read_text()[-3000:]}" for each in sorted(self.folder.glob("*.err"))]
            raise AssertionError("\n".join([f"{error}: {self.states()}", *said])) from None

    # -- jobs -----------------------------------------------------------------------------------

    def states(self) -> dict[str, int]:
        return {str(state): count for state, count in self.engine.counts().items() if count}

    def is_drained(self) -> bool:
        return not set(self.states()) - {"completed", "failed", "cancelled"}

    def completed(self, job_id: int, within: float = 20.0) -> Any:
        """The job, once it has completed."""
        terminal = ("completed", "failed", "cancelled")
        until(lambda: self.engine.get_job(job_id).state in terminal, f"job {job_id} ends", within=within)
        job = self.engine.get_job(job_id)
        assert str(job.state) == "completed", job
        return job

    # -- the records ----------------------------------------------------------------------------

    @property
    def notes(self) -> list[Note]:
        path = self.folder / "records"
        # A line is written at once, and may be seen in part.
        text = path.read_text() if path.exists() else ""
        return notes_in(text[: text.rfind("\n") + 1], self._offsets.__getitem__)

    @property
    def runs(self) -> list[Run]:
        return runs_of(self.notes)

    def runs_of(self, job_id: int) -> list[Run]:
        return [each for each in self.runs if each.job == job_id]

    def started(self, job_id: int, times: int = 1, within: float = 20.0) -> Run:
        """Its run of that number, once it has begun."""
        return self.until(
            lambda: self.runs_of(job_id)[times - 1 : times], f"run {times} of job {job_id}", within=within
        )[0]

    def judge(self, job_ids: Sequence[int]) -> None:
        """Each job completed, is recorded once, and never ran twice at once; nor did two of the queue of one."""
        jobs = {job_id: self.engine.get_job(job_id) for job_id in job_ids}
        left = {job_id: job for job_id, job in jobs.items() if str(job.state) != "completed"}
        assert not left, left
        runs = self.runs
        ended = {each.job for each in runs if each.has_ended}
        assert ended >= set(job_ids), "completed, and never ran to its end"
        assert overlaps(runs) == []
        assert crowds(runs, "single") == []
        for job_id, job in jobs.items():
            self.judge_history(job_id, job)

    def judge_history(self, job_id: int, job: Any) -> None:
        """Exactly one of its starts is recorded as completed: the last one."""
        attempts = self.engine.store.attempts(job_id)
        starts = [each.starts for each in attempts]
        completed = [each.starts for each in attempts if each.cause == "completed"]
        assert len(starts) == len(set(starts)), attempts
        assert completed == [max(starts)] == [job.starts], attempts

    def close(self) -> None:
        self._network.take_away()
        self.engine.store.close_all()
