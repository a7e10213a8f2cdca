"""Real servers for the tests: an app in a folder under uvicorn, and probes on its processes and its store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2

from mpdispatch import SQLiteStore, StoreError
from mpdispatch.engine.supervisors import living_supervisors
from mpdispatch.model import PeerSupervisor

ROOT = str(Path(__file__).resolve().parents[2])
T = TypeVar("T")


def until(probe: Callable[[], T], what: str, *, within: float = 40.0) -> T:
    """What the probe gives as soon as it is true."""
    deadline = time.monotonic() + within
    while True:
        if found := probe():
            return found
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.005)


class Place:
    """A folder with an app, and the processes started there. Every one of them, and of theirs, carries our mark."""

    def __init__(self, folder: Path, app: str) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = open(folder / "log", "ab")  # noqa: SIM115 - closed with the place
        self.write(app)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, auth=self._with_token)

    def _with_token(self, request: httpx2.Request) -> httpx2.Request:
        """Of the store's own token, if the server has made one."""
        file = self.folder / "jobs.db-mpd" / "http-token"
        if file.exists():
            request.headers["authorization"] = f"Bearer {file.read_text().strip()}"
        return request

    def write(self, app: str) -> None:
        (self.folder / "main.py").write_text(textwrap.dedent(app))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.marked():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.processes:
            process.wait()
        self.client.close()
        self.log.close()

    # ---------------------------------------------------------------- processes

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MPDISPATCH_")}
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env={**clean, "PYTHONPATH": ROOT, "TEST_MARK": self.mark},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def serve(self, *arguments: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """uvicorn with `main:app`; returns when it answers."""
        process = self.run("uvicorn", "main:app", "--port", str(self.port), *arguments)
        if wait:
            until(self.answers, f"the server answers\n{self.said()}")
        return process

    def supervise(self) -> subprocess.Popen[bytes]:
        return self.run("mpdispatch", "supervise", "main:ext")

    def answers(self) -> bool:
        assert all(process.poll() is None for process in self.processes), self.said()
        try:
            return self.client.get("/ping").status_code == 200
        except httpx2.TransportError:
            return False

    def said(self) -> str:
        return (self.folder / "log").read_text()

    def marked(self) -> list[int]:
        """Every living process that was started here, at whatever remove."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    if state not in "ZX" and self.mark.encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    # ---------------------------------------------------------------- the store and the app

    @property
    def store(self) -> SQLiteStore:
        return SQLiteStore(self.folder / "jobs.db")

    def living(self) -> list[PeerSupervisor]:
        try:
            return living_supervisors(self.store)
        except StoreError:
            return []

    def only(self) -> PeerSupervisor:
        """The one living supervisor, as soon as there is exactly one."""

        def look() -> PeerSupervisor | None:
            found = self.living()
            return found[0] if len(found) == 1 else None

        found = until(look, f"exactly one supervises\n{self.said()}")
        assert found is not None
        return found

    def order(self, path: str) -> Any:
        answer = self.client.post(f"/orders/{path}")
        assert answer.status_code in (200, 201), f"{answer.text}\n{self.said()}"
        return answer.json()

    def completed(self, job_id: int) -> Any:
        def look() -> Any:
            job = self.client.get(f"/api/dispatch/v1/jobs/{job_id}").json()
            return job if job["state"] == "completed" else None

        return until(look, f"job {job_id} is completed\n{self.said()}")


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send the signal and wait for the end; its exit status."""
    process.send_signal(number)
    return process.wait(timeout=60)
