"""A dead supervisor as its rescuer finds it: its start journal, leads to its leftovers, its jobs' loss. Effects: files."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.host.leftovers import JournalNames
from mpdispatch.ids import boot_id, host_name, machine_id
from mpdispatch.model import ErrorInfo, PeerSupervisor
from mpdispatch.policy.lease import PeerVerdict

_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""The journal may exist, but this process has no descriptor or memory to open it."""


def stand_in(owner: int) -> PeerSupervisor:
    """A stand-in for an owner that is not registered: one of this host and boot, with nothing else known."""
    return PeerSupervisor(
        id=owner,
        host=host_name(),
        machine_id=machine_id(),
        boot_id=boot_id(),
        pid=0,
        pid_start=0,
        pid_namespace="",
        queues=(),
        concurrency=0,
        app="",
        version="",
        started_us=0,
        heartbeat_us=0,
        lease_left_us=0,
        renewed=0,
    )


@contextmanager
def own_journal(peer: PeerSupervisor, path: Path) -> Iterator[JournalReader | None]:
    """The peer's start journal; None: absent, unreadable, or another's as far as can be known.

    Raises OSError: no descriptor or memory to open it.
    """
    try:
        reader = JournalReader(path)
    except OSError as error:
        if error.errno in _SHORT:
            raise
        yield None
        return
    with closing(reader):
        # A row without a token belongs to a supervisor of schema version 1, or is a stand-in.
        is_own = reader.is_ours and bool(reader.token) and peer.token in ("", reader.token)
        yield reader if is_own else None


def leads(peer: PeerSupervisor, path: Path) -> tuple[str, JournalNames | None]:
    """How to find its leftovers: its token, and the workers named in its start journal."""
    with own_journal(peer, path) as reader:
        if reader is None:
            return peer.token, None
        return reader.token, JournalNames(frozenset(reader.workers()), reader.identity)


def loss_of(peer: PeerSupervisor, verdict: PeerVerdict | None) -> ErrorInfo:
    if verdict is None:
        return ErrorInfo(
            type="LeaseLost",
            message=f"supervisor {peer.id}, which had claimed the job, is not registered any more",
        )
    is_dead = verdict is PeerVerdict.DEAD
    what = "died" if is_dead else "lost its lease"
    return ErrorInfo(
        type="SupervisorDied" if is_dead else "LeaseLost",
        message=f"supervisor {peer.id} (pid {peer.pid} on {peer.host}) {what} while the job was running",
    )


def remove_journal(path: Path, log: logging.Logger) -> None:
    """Remove the journal on a thread: freeing the blocks of 16 records took 30 to 60 ms, of 64 up to 160 ms."""
    try:
        threading.Thread(target=_remove, args=(path, log), name="mpdispatch-remove").start()
    except RuntimeError:  # no thread available
        _remove(path, log)


def _remove(path: Path, log: logging.Logger) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot remove the start journal of a dead supervisor", extra={"error": str(error)})
