"""The results of a map, as an iterator: it enqueues ahead, waits for ends, and reads what was returned.

items ──places──▶ running ──▶ ended ──read, some at a time──▶ ready ──▶ given

At most `window` jobs are running (enqueued, and not seen to have ended), ended or ready.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

import msgspec

from mpdispatch.engine.maps.lock import MapLock
from mpdispatch.engine.maps.places import Places
from mpdispatch.engine.options import EnqueueOptions
from mpdispatch.engine.waiting.blocking import EndWatch
from mpdispatch.engine.waiting.waits import completed
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.model import JobState, Member

if TYPE_CHECKING:  # which loads this module
    from mpdispatch.engine.engine import Engine

R = TypeVar("R", covariant=True)

_PARTS = 2
"""A chunk is half of the window at most: while one half is enqueued, workers run the other."""
_MOST_READ, _READ_BYTES = 500, 1 << 20
"""At most so many results are read at once, and fewer if they are larger than this together."""
_MOST_ASKED = 1_000
"""Of jobs whose results are to be given in order, so many at most are asked for at each look."""
_LOOK_S = 2.0
"""How often to look whether a supervisor lives, while nothing ends."""


class _Result(NamedTuple):
    """What is to be given for a job that has ended, as it is stored."""

    job_id: int
    result: bytes | None
    is_completed: bool


class MapResults(Generic[R]):
    """What `engine.map` gives: an iterator over the results. One thread at a time.

    `close()` ends it, as does leaving it as a context, or dropping the last reference to it.
    """

    def __init__(
        self,
        engine: Engine,
        definition: JobDefinition,
        options: EnqueueOptions,
        items: Iterator[tuple[Any, ...]],
        *,
        is_ordered: bool,
        name: str | None,
        window: int,
    ) -> None:
        self._engine, self._definition, self._is_ordered = engine, definition, is_ordered
        self._name, self._window, self._chunk = name, window, max(1, window // _PARTS)
        self._begin: Callable[[], Places] | None = lambda: Places(
            engine, definition, options, items, name=name, chunk=self._chunk
        )
        self._places: Places | None = None
        self._lock: MapLock | None = None
        self._watch: EndWatch | None = None
        self._stop_supervising: Callable[[], None] | None = None
        self._running, self._ended = dict[int, None](), deque[int]()
        """Ids of jobs that have not ended as far as is known, and of those that have, in the order to be given."""
        self._ready = deque[_Result]()
        self._most_read = 16
        self._looked_s = 0.0
        self._pid = os.getpid()

    @property
    def batch_id(self) -> int | None:
        """The batch of its jobs; None before the first is enqueued."""
        return None if self._places is None else self._places.batch_id

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        if self._begin is not None:
            self._start()
        if self._watch is None or self._places is None:
            raise StopIteration
        try:
            while not self._ready or self._wants_more(self._places):
                if not self._advance(self._places, self._watch):
                    self.close()
                    if self._places.error is not None:
                        raise self._places.error
                    raise StopIteration
            ready = self._ready.popleft()
        except Exception:
            self.close()
            raise
        return self._given(ready)

    # ---------------------------------------------------------------- its steps

    def _start(self) -> None:
        begin, self._begin = self._begin, None
        assert begin is not None
        self._engine.store.check(create=True)  # as an enqueue would
        if self._name is not None:
            self._lock = MapLock(self._engine.store, self._name)
        try:
            self._supervise()
            self._places = begin()
            self._watch = EndWatch(self._engine.store)
        except BaseException:
            self.close()
            raise

    def _supervise(self) -> None:
        """Run a supervisor unless one lives, or jobs run in this process. Raises what `Dispatcher.start` does."""
        self._looked_s = time.monotonic()
        if self._engine.in_process is None and not self._engine.has_supervisor():
            dispatcher = self._engine.dispatcher
            dispatcher.start()
            self._stop_supervising = dispatcher.stop

    def _wants_more(self, places: Places) -> bool:
        """Whether to enqueue before results that are ready are given. Not if the items come slowly."""
        return not places.is_over and not places.is_slow and self._has_room()

    def _has_room(self) -> bool:
        waiting = len(self._running) + len(self._ended) + len(self._ready)
        return waiting <= self._window - self._chunk

    def _advance(self, places: Places, watch: EndWatch) -> bool:
        """One step: enqueue a chunk, or read results, or wait. False: all was given."""
        if not places.is_over and self._has_room():
            self._running.update(dict.fromkeys(places.take()))
        elif self._running and not self._ready and not self._ended:
            self._pause(watch)
        self._look(watch)
        if not self._ready:
            self._read()
        return bool(self._ready or self._running or not places.is_over)

    def _pause(self, watch: EndWatch) -> None:
        """Returns when jobs may have ended."""
        if (here := self._engine.in_process) is None:
            watch.pause(_LOOK_S)
        else:
            here.awaited(next(iter(self._running)))

    def _look(self, watch: EndWatch) -> None:
        if not self._running:
            return
        # In order, those far behind cannot be given yet.
        asked = list(islice(self._running, _MOST_ASKED if self._is_ordered else None))
        found = watch.look(lambda: self._engine.store.ended(asked))
        if not found:
            if time.monotonic() - self._looked_s > _LOOK_S:
                self._supervise()
            return
        self._looked_s = time.monotonic()
        for job_id in asked:
            if job_id in found:
                del self._running[job_id]
                self._ended.append(job_id)
            elif self._is_ordered:
                break  # those behind it are asked for again

    def _read(self) -> None:
        """Read some of the results that are to be given next."""
        wanted = [self._ended.popleft() for _ in range(min(self._most_read, len(self._ended)))]
        if not wanted:
            return
        found = self._members(sorted(wanted))
        self._ready.extend(self._result(job_id, found.get(job_id)) for job_id in wanted)
        size = sum(len(each.result or b"") for each in self._ready)
        most = self._most_read * 2 if size < _READ_BYTES else self._most_read // 2
        self._most_read = max(1, min(most, _MOST_READ))

    def _members(self, wanted: list[int]) -> dict[int, Member]:
        """These members, given in order of their ids, as far as they are there."""
        found, batch_id = dict[int, Member](), self.batch_id
        assert batch_id is not None
        while wanted:
            first = wanted[0]
            page = self._engine.store.batches.members(batch_id, after_id=first - 1, limit=len(wanted))
            found.update((each.id, each) for each in page)
            wanted = [job_id for job_id in wanted if job_id not in found and job_id != first]
        return found

    def _result(self, job_id: int, member: Member | None) -> _Result:
        if member is None:  # it was pruned
            return _Result(job_id, None, is_completed=False)
        return _Result(job_id, member.result, member.state is JobState.COMPLETED)

    def _given(self, ready: _Result) -> R:
        if not ready.is_completed:
            job = self._engine.get_job(ready.job_id)
            found: R = completed(job).result  # raises: it has failed, was cancelled or was pruned
            return found
        stored = None if ready.result is None else msgspec.json.decode(ready.result)
        result: R = self._definition.returns.read(stored)
        return result

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """Give no more. Without a name, cancel what has not ended; with one, the same call goes on later."""
        self._begin = None
        if self._pid != os.getpid():
            return  # a forked child has a copy: nothing of it is its own
        with contextlib.ExitStack() as last:
            lock, self._lock = self._lock, None
            if lock is not None:
                last.callback(lock.release)
            stop, self._stop_supervising = self._stop_supervising, None
            if stop is not None:
                last.callback(stop)
            watch, self._watch = self._watch, None
            if watch is not None:
                watch.close()
                self._end_batch()

    def _end_batch(self) -> None:
        places, batches = self._places, self._engine.store.batches
        if self._name is not None or places is None or places.batch_id is None:
            return
        if self._running or not places.is_over or places.error is not None:
            batches.cancel(places.batch_id)
            batches.close(places.batch_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Whoever broke out of a loop over it hears of no error; a supervisor goes on with a batch that is cancelled.
        with contextlib.suppress(Exception):
            self.close()
