"""`engine.batches`: the batches of a store. Needs a store, no handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpdispatch.engine.batches.batch import Batch
from mpdispatch.engine.options import checked_id, checked_limit
from mpdispatch.model import BatchInfo, Page
from mpdispatch.store.filters import BatchFilter

if TYPE_CHECKING:  # which loads this module
    from mpdispatch.engine.client import JobClient


class Batches:
    """The batches of a store, each by its id. `engine.batch` makes one."""

    def __init__(self, client: JobClient) -> None:
        self._client = client

    def get(self, batch_id: int) -> Batch:
        """Raises BatchNotFoundError."""
        info = self._client.store.batches.get(checked_id(batch_id, "batch_id"))
        return Batch(self._client, info.id, info.name)

    def list(
        self,
        *,
        name: str | None = None,
        ended: bool | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[BatchInfo]:
        """How each stands, newest first: `items` (at most `limit`, 1 to 1000) and the `next_cursor` (None at the end).

        `ended=True` gives those that have ended, False those that have not; the default gives all. What is done to one
        goes through `get(info.id)`.

        Raises UsageError: `limit` or `cursor` is not allowed.
        """
        where = BatchFilter(name=name, has_ended=ended)
        return self._client.store.batches.page(where, limit=checked_limit(limit), cursor=cursor)
