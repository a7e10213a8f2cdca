"""The jobs of a map in their store: members of one batch, in a queue of their own. Effects: the store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

import msgspec

from mpdispatch.cli.map.ends import CUT_OFF, End, end_in_store
from mpdispatch.errors import BatchNotFoundError, UsageError
from mpdispatch.model import COMMAND_JOB, AlikeJobs, Command, JobState, Member, NewBatch, NewJob
from mpdispatch.policy.names import cut, shown
from mpdispatch.store.batches import every_member
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import JobFilter

_PAGE = 5_000
_NAME_CHARS = 60


def payload_of_words(words: Sequence[str], *, cwd: str, spool: str, max_bytes: int) -> bytes:
    """The payload of the command job with this argv, in the environment of the supervisor.

    Raises UsageError: it is too large.
    """
    try:
        payload = msgspec.json.encode(Command(argv=list(words), cwd=cwd, env=None, spool=spool))
    except UnicodeEncodeError:  # names of files are bytes
        argv, folder, files = list(map(_as_bytes, words)), _as_bytes(cwd), _as_bytes(spool)
        payload = msgspec.json.encode(Command(argv=argv, cwd=folder, env=None, spool=files, is_bytes=True))
    if len(payload) > max_bytes:
        raise UsageError(
            f"inputs: the command {shown(' '.join(words))} is {len(payload):,} bytes of JSON, at most {max_bytes:,}"
            " are allowed (max_payload_bytes)"
        )
    return payload


def _is_for(payload: bytes, words: Sequence[str]) -> bool:
    """Whether it is the payload of a job that runs this command."""
    command = msgspec.json.decode(payload, type=Command)
    return command.argv == (list(map(_as_bytes, words)) if command.is_bytes else list(words))


def lost(how: str) -> UsageError:
    """The error of a map that cannot be resumed."""
    return UsageError(
        f"--resume: the last map of this template and these inputs cannot go on: {how}. Without --resume the same"
        " command begins anew and runs all of them again"
    )


def _as_bytes(text: str) -> str:
    """A character for each byte that the file system has."""
    return os.fsencode(text).decode("latin-1")


class MapJobs:
    """The jobs of a map, by position: the input that each is for, from 0. They are enqueued in parts, in order."""

    def __init__(self, store: Store, queue: str) -> None:
        self._store, self.queue = store, queue
        self._batch: NewBatch | int = 0
        self.count = 0
        """How many are enqueued: those of the first inputs."""
        self._positions: dict[int, int] = {}

    def position_of(self, job_id: int) -> int | None:
        """None: it is no job of this map."""
        return self._positions.get(job_id)

    @property
    def batch_id(self) -> int:
        """The batch of the jobs. Only after some were enqueued, or found."""
        assert isinstance(self._batch, int)
        return self._batch

    def begin(self, line: str) -> None:
        """Start a new map with the next jobs that are enqueued. `line` names it to people."""
        name = cut("map " + "".join(c if c.isprintable() else "?" for c in line), _NAME_CHARS)
        self._batch = NewBatch(name=name)
        self.count, self._positions = 0, {}

    def enqueue(
        self, payloads: Sequence[bytes], *, max_retries: int, timeout_us: int | None, is_last: bool
    ) -> None:
        """Store a job for each payload, for the next inputs, in one transaction. `is_last`: there are no more inputs."""
        template = NewJob(
            name=COMMAND_JOB,
            payload=b"{}",
            queue=self.queue,
            max_retries=max_retries,
            timeout_us=timeout_us,
        )
        made = self._store.enqueue_many(AlikeJobs(template, payloads), batch=self._batch, closes=is_last)
        assert made.batch_id is not None  # a batch is named
        self._batch = made.batch_id
        self._positions.update((job_id, self.count + n) for n, job_id in enumerate(made.ids))
        self.count += len(payloads)

    def find(self, words_of: Callable[[int], Sequence[str]], total: int) -> bool:
        """Find the last map of this queue. False: there is none. `words_of`: the command of a job, by its position.

        Raises UsageError: jobs of it are not there any more, or will never be.
        """
        batch_id = self.last()
        if not batch_id:
            return False
        self._batch = batch_id
        # A job that took another's place has a higher id, so the first ones are as they were enqueued.
        positions: dict[int, int] = {}
        self.count = 0
        is_whole = True
        for member in self._members():
            if member.id not in positions:
                # One whose predecessor was deleted would stand at a later place than its own.
                is_whole = is_whole and self.count < total and _is_for(member.payload, words_of(self.count))
                positions[member.id] = self.count
                self.count += 1
            if member.retried_as is not None:
                positions[member.retried_as] = positions[member.id]
        self._positions = positions
        batch = self._store.batches.get(batch_id)
        if self.count < batch.total:
            raise lost(f"{batch.total - self.count:,} of its {batch.total:,} jobs are not there any more")
        if not is_whole:
            raise lost("some of its jobs are not there any more")
        if self.count < total and not batch.is_open:
            text = f"its batch {batch_id} was closed when {self.count:,} of {total:,} jobs were enqueued"
            raise lost(text)
        return True

    def last(self) -> int:
        """The batch of the last map of this queue; 0: there is none."""
        page = self._store.list_jobs(JobFilter(queue=self.queue), limit=1, cursor=None)
        return (page.items[0].batch_id if page.items else None) or 0

    def discard(self, batch_id: int) -> None:
        """Cancel what an earlier map has left waiting; its batch may have been pruned."""
        with contextlib.suppress(BatchNotFoundError):
            self._store.batches.cancel(batch_id)
            self._store.batches.close(batch_id)

    def _members(self) -> Iterator[Member]:
        return every_member(self._store.batches, self.batch_id, at_once=_PAGE)

    def ended(self) -> Iterator[tuple[int, int, bool]]:
        """Of each job that has ended: position, id, and whether it completed."""
        # Of each only what is needed: its payload may be large.
        members = [(each.id, each.state) for each in self._members() if each.retried_as is None]
        for job_id, state in members:
            if state.is_terminal:
                yield self._positions[job_id], job_id, state is JobState.COMPLETED

    def end(self, job_id: int) -> End:
        """How a job has ended, as the store has it."""
        return end_in_store(self._store.get(job_id), self._store.attempts(job_id))

    def run_again(self, end: End) -> None:
        """Enqueue a failed or cancelled job again, in its place."""
        job = self._store.retry(end.job_id)
        self._positions[job.id] = self._positions[end.job_id]

    def resume(self, *, with_failed: bool) -> Iterator[tuple[int, End | None]]:
        """The position of each job that has ended, with its end; None: it runs again, because it was cut off.

        `with_failed`: those that failed by themselves run again, too.
        """
        for position, job_id, is_completed in self.ended():
            end = self.end(job_id)
            if is_completed or not (with_failed or end.cause in CUT_OFF):
                yield position, end
            else:
                self.run_again(end)
                yield position, None
