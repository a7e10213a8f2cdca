"""Other supervisors of the same store, as the one under test finds them: dead, stopped, alive. Runs in the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpdispatch.clock import SystemClock
from mpdispatch.ids import ProcessId, boot_id, host_name, machine_id, pid_namespace, process_id
from mpdispatch.model import ClaimedJob, NewJob, Registration
from mpdispatch.policy.admission import Admission
from mpdispatch.policy.lease import lease
from mpdispatch.pool import marks
from mpdispatch.pool.frames import FromWorker, encode
from mpdispatch.pool.kill import WORKER_VARIABLE
from mpdispatch.pool.marks import MarkFile, Ring, marks_path
from mpdispatch.store.base import Lease, Ledger
from mpdispatch.store.sqlite import SQLiteStore
from tests.pool import tree
from tests.pool.probes import pid_in, state_of, until

ROOT = Path(__file__).parents[2]


@dataclass
class Peer:
    """A registered supervisor whose process is a mere stand-in."""

    store: SQLiteStore
    process: subprocess.Popen[bytes]
    token: str = "0123456789abcdef"
    lease_s: float = 30.0
    boot: str = field(default_factory=boot_id)
    rings: int = 4
    row_token: str | None = None
    """What its row says, if that is not what its mark file says."""

    def __post_init__(self) -> None:
        self.ledger: Ledger = self.store.ledger()
        self._clock = SystemClock()
        identity = process_id(self.process.pid)
        who = Registration(
            host=host_name(),
            machine_id=machine_id(),
            boot_id=self.boot,
            pid=identity.pid,
            pid_start=identity.start,
            pid_namespace=pid_namespace(),
            queues=("default",),
            concurrency=4,
            app="tests",
            version="0",
            token=self.row_token if self.row_token is not None else self.token,
        )
        now = self._clock.now()
        self.owner = self.ledger.register(who, Lease(*lease(now, round(self.lease_s * 1e6))), now=now)
        self._file: MarkFile | None = MarkFile(
            marks_path(self.ledger.side_dir, self.owner), self.rings, token=self.token
        )

    def claim(self, count: int) -> Sequence[ClaimedJob]:
        planner = Admission(queues=("default",), configs=(), known=None, app="tests")
        return self.ledger.turn(self.owner, [], now=self._clock.now(), planner=planner, slots=count).claimed

    def ring(self, worker: ProcessId | None = None) -> Ring:
        """A ring, signed by this process if one is given."""
        assert self._file is not None
        ring = self._file.take_ring()
        assert ring is not None
        if worker is not None:
            marks._HEAD.pack_into(self._file._map, ring._base, worker.pid, worker.start, 0)
        return ring

    def start(self, ring: Ring, job: ClaimedJob) -> None:
        ring.write(job.id, job.starts, self._clock.now().boot_us)

    def say(self, ring: Ring, message: FromWorker) -> None:
        """As the worker of this ring does. Nobody has heard it."""
        assert ring.outbox_to_fill().put(encode(message) + b"\n")

    def die(self) -> None:
        self.process.kill()
        self.process.wait()
        self.let_go()

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)
        until(lambda: state_of(self.process.pid) == "T")

    def let_go(self) -> None:
        """Close what this test holds of it."""
        if self._file is not None:
            self._file.close(remove=False)
            self._file = None
            self.ledger.close()
            self.store.close()


def stand_in() -> subprocess.Popen[bytes]:
    """A process that does nothing."""
    return subprocess.Popen([sys.executable, "-S", "-c", "import signal\nwhile True: signal.pause()"])


def leftover(folder: Path, mark: str, *kinds: str) -> subprocess.Popen[bytes]:
    """A worker-like process with this mark, and what it left behind."""
    environment = {**os.environ, WORKER_VARIABLE: mark, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, tree.__file__, folder, *kinds], env=environment, start_new_session=True
    )
    for name in ("worker", *kinds):
        pid_in(folder / name)
    return process


def enqueued(folder: Path, count: int, **options: Any) -> list[int]:
    """Jobs enqueued before any supervisor is there."""
    store = SQLiteStore(folder / "jobs.db", durability="process")
    store.migrate()
    ids = [
        store.enqueue(NewJob(name="noop", payload=b"{}", **options), now=SystemClock().now()).id
        for _ in range(count)
    ]
    store.close()
    return ids
