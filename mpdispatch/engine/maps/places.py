"""The places of a map: one job for each item. They are made as they are asked for, or found from an earlier run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mpdispatch.engine.options import EnqueueOptions
from mpdispatch.errors import PayloadError, UsageError
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.model import BatchInfo, NewBatch
from mpdispatch.policy.names import cut
from mpdispatch.store.batches import every_member
from mpdispatch.store.contract import Store

if TYPE_CHECKING:  # which loads this module
    from mpdispatch.engine.engine import Engine

_GATHERS_S = 0.1
"""Items that come slowly are enqueued after this time, however few they are."""
_GATHERS_BYTES = 8 << 20
"""Large items are enqueued when so many bytes have gathered, however few they are."""
_FIRST_CHUNK = 250
"""So that workers begin soon; each further chunk is four times as large as the one before."""
_PAGE = 500
KEY = "map:{}"
"""Of the batch of a map with a name."""


class _Kept(NamedTuple):
    """A place of an earlier run."""

    job_id: int
    """The last of the jobs that have taken it."""
    payload: bytes


class Places:
    """Takes the items of a map, and gives the ids of their jobs in the order of the items."""

    def __init__(
        self,
        engine: Engine,
        definition: JobDefinition,
        options: EnqueueOptions,
        items: Iterator[tuple[Any, ...]],
        *,
        name: str | None,
        chunk: int,
    ) -> None:
        """`chunk`: so many at most are enqueued in one transaction."""
        self._engine, self._definition, self._options = engine, definition, options
        self._items, self._name, self._most = items, name, chunk
        self._chunk = min(chunk, _FIRST_CHUNK)
        self._store = engine.store
        self._seen = 0
        self.is_over = self.is_slow = False
        """Whether all items were taken, and whether the last ones came slowly."""
        self.error: Exception | None = None
        """What taking an item has raised; it stands after all places."""
        self.batch_id: int | None = None
        self._info: BatchInfo | None = None
        self._kept: Iterator[_Kept] | None = None
        if name is not None:
            new = NewBatch(name=name, key=KEY.format(name))
            self._info = self._store.batches.open(new)
            self.batch_id = self._info.id
            self._kept = _kept(self._store, self.batch_id) if self._info.total else None

    def take(self) -> list[int]:
        """The next places; none once all items were taken.

        Raises:
            UsageError: the items are others than those of the earlier run.
            StoreError: then nothing of this chunk is enqueued.
        """
        if self._kept is not None and (found := self._compared(self._kept)):
            return found
        payloads = self._gathered()
        self._chunk = min(4 * self._chunk, self._most)
        if not payloads:
            self._close()
            return []
        if self._info is not None and self._info.cancelled_at is not None:
            raise UsageError(
                f"map {self._name!r}: its batch {self.batch_id} was cancelled and takes no more jobs; choose another name"
            )
        if self._info is not None and not self._info.is_open:
            raise self._differs(f"it was complete with {self._info.total:,} items, and more are passed now")
        into = self.batch_id
        made = self._engine.add_alike(
            self._definition,
            self._options,
            payloads,
            NewBatch(name=f"map {self._definition.name}") if into is None else into,
            closes=self.is_over and self.error is None,
        )
        self.batch_id = made.batch_id
        return list(made.ids)

    def _gathered(self) -> list[bytes]:
        """The arguments of the next chunk of items."""
        found, size, began_s = list[bytes](), 0, time.monotonic()
        self.is_slow = False
        while not (self.is_over or self.is_slow or len(found) >= self._chunk or size >= _GATHERS_BYTES):
            if (payload := self._next()) is not None:
                found.append(payload)
                size += len(payload)
                self.is_slow = time.monotonic() - began_s > _GATHERS_S
        return found

    def _next(self) -> bytes | None:
        """The arguments of the next item; None at the end, or at an error."""
        limit = self._engine.max_payload_bytes
        try:
            item = next(self._items, None)
            if item is not None:
                payload = self._definition.signature.encode(item, {}, max_bytes=limit)
                self._seen += 1
                return payload
        except Exception as error:  # noqa: BLE001 - of the user's iterables, or of an item; it is raised at its place
            if isinstance(error, PayloadError):
                error.add_note(f"it is item {self._seen} of the map, counted from 0")
            self.error = error
        self.is_over = True
        return None

    def _close(self) -> None:
        if self.batch_id is not None and self.error is None and (self._info is None or self._info.is_open):
            self._store.batches.close(self.batch_id)

    # ---------------------------------------------------------------- an earlier run

    def _compared(self, kept: Iterator[_Kept]) -> list[int]:
        """The next places of the earlier run; none behind the last one. Raises UsageError."""
        found = list[int]()
        for place in islice(kept, self._chunk):
            index = self._seen
            if index == 0:
                self._refuse_other_handler(place.job_id)
            payload = self._next()
            if payload is None:
                if self.error is not None:
                    return found
                assert self._info is not None
                raise self._differs(f"it has {self._info.total:,} items, and only {index:,} are passed now")
            if payload != place.payload and not _is_same(payload, place.payload):
                before, now = (cut(each.decode(errors="replace"), 200) for each in (place.payload, payload))
                raise self._differs(f"its item {index:,} is {before}, and {now} is passed now")
            found.append(place.job_id)
        if len(found) < self._chunk:
            self._kept = None
            assert self._info is not None
            if self._seen < self._info.total:
                gone = self._info.total - self._seen
                raise self._differs(f"{gone:,} of its {self._info.total:,} jobs are not there any more")
        return found

    def _refuse_other_handler(self, job_id: int) -> None:
        name = self._store.get(job_id).name
        if name != self._definition.name:
            raise self._differs(f"it calls {name!r}, not {self._definition.name!r}")

    def _differs(self, how: str) -> UsageError:
        return UsageError(
            f"map {self._name!r} (batch {self.batch_id}) was begun with other items: {how}; pass the same ones, or"
            " another name"
        )


def _kept(store: Store, batch_id: int) -> Iterator[_Kept]:
    """The places of a batch, in the order in which they were enqueued."""
    replacements = set[int]()
    for member in every_member(store.batches, batch_id, at_once=_PAGE):
        if member.id in replacements:
            replacements.remove(member.id)
            continue
        job_id, later = member.id, member.retried_as
        while later is not None:
            replacements.add(later)
            job_id, later = later, store.get(later).retried_as
        yield _Kept(job_id, member.payload)


def _is_same(payload: bytes, kept: bytes) -> bool:
    """Whether they hold the same arguments; keys may be in another order."""
    try:
        return bool(msgspec.json.decode(payload) == msgspec.json.decode(kept))
    except msgspec.DecodeError:
        return False
