"""The lock of a map with a name: two that enqueue under one name would mix up its places."""

from __future__ import annotations

import hashlib

from mpdispatch.errors import UsageError
from mpdispatch.host.process_lock import ProcessLock
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.store.contract import Store


class MapLock:
    """Held by this process, for one map. The kernel releases it when the process dies."""

    def __init__(self, store: Store, name: str) -> None:
        """Raises UsageError: somebody else maps under this name at this moment; OSError."""
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        self._lock = ProcessLock(runtime_folder(store), f"map.{digest}")
        if not self._lock.try_acquire():
            holder = self._lock.holder()
            who = "another process" if holder is None else f"process {holder.pid}"
            raise UsageError(
                f"map {name!r}: {who} is mapping under this name; wait for it, or use another name"
            )

    def release(self) -> None:
        self._lock.remove()
