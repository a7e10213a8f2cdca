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
from mpdispatch.host import journal_layout
from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.host.processes import ProcessId, pid_namespace, process_id
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.ids import boot_id, host_name, machine_id
from mpdispatch.model import ClaimedJob, ClaimRequest, NewJob, NewSupervisor
from mpdispatch.pool.frames import FromWorker, encode
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.store.supervisor_contract import SupervisorStore
from tests.host import tree
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
    records: int = 4
    row_token: str | None = None
    """What its row says, if that is not what its start journal says."""

    def __post_init__(self) -> None:
        self.supervisor_store: SupervisorStore = self.store.supervisor_store()
        self._clock = SystemClock()
        identity = process_id(self.process.pid)
        who = NewSupervisor(
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
        self.owner = self.supervisor_store.register(who, round(self.lease_s * 1e6))
        self._file: Journal | None = Journal(
            journal_path(runtime_folder(self.store), self.owner), self.records, token=self.token
        )

    def claim(self, count: int) -> Sequence[ClaimedJob]:
        claim = ClaimRequest(queues=("default",), slots=count)
        return self.supervisor_store.commit(self.owner, [], claim=claim).claimed

    def record(self, worker: ProcessId | None = None) -> WorkerRecord:
        """A record, signed by this process if one is given."""
        assert self._file is not None
        record = self._file.take_record()
        assert record is not None
        if worker is not None:
            journal_layout.HEAD.pack_into(self._file._map, record._base, worker.pid, worker.start, 0)
        return record

    def start(self, record: WorkerRecord, job: ClaimedJob) -> None:
        record.write(job.id, job.starts, self._clock.now().boot_us)

    def say(self, record: WorkerRecord, message: FromWorker) -> None:
        """As the worker of this record does. Nobody has heard it."""
        assert record.reply_writer().put(encode(message) + b"\n")

    def die(self) -> None:
        self.process.kill()
        self.process.wait()
        self.detach_files()

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)
        until(lambda: state_of(self.process.pid) == "T")

    def detach_files(self) -> None:
        """Close what this test holds of it."""
        if self._file is not None:
            self._file.close(remove=False)
            self._file = None
            self.supervisor_store.close()
            self.store.close()


def stand_in() -> subprocess.Popen[bytes]:
    """A process that does nothing."""
    return subprocess.Popen([sys.executable, "-S", "-c", "import signal\nwhile True: signal.pause()"])


def leftover(folder: Path, tag: str, *kinds: str) -> subprocess.Popen[bytes]:
    """A worker-like process with this mark, and what it left behind."""
    environment = {**os.environ, WORKER_VARIABLE: tag, "PYTHONPATH": str(ROOT)}
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
    ids = [store.enqueue(NewJob(name="noop", payload=b"{}", **options)).id for _ in range(count)]
    store.close()
    return ids
