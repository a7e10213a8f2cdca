"""What can be wrong with a pool that is not of this machine's processes."""

from __future__ import annotations

from mpdispatch.errors.base import DispatchError


class PoolUnavailable(DispatchError):
    """The cluster that is to run the jobs cannot be used. `pool` names it; `detail` says why."""

    exit_code = 69

    def __init__(self, pool: str, detail: str) -> None:
        self.pool, self.detail = pool, detail
        super().__init__(f"{pool}: {detail}")
