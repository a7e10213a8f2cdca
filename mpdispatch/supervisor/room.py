"""On a full disk, a starting supervisor waits for room, as a running one does. Effects: waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mpdispatch.errors import StoreFull
from mpdispatch.supervisor.runtime import Runtime

T = TypeVar("T")

_RETRY_S = 0.5


class RoomWaiter:
    """Runs steps of the start, and repeats a step while the disk is full. Logs once that it waits."""

    def __init__(self, runtime: Runtime, on_wait: Callable[[], object]) -> None:
        """`on_wait` is called when the wait begins, so that a caller of `start` need not wait too."""
        self._runtime, self._on_wait = runtime, on_wait
        self._is_waiting = False

    def __call__(self, step: Callable[[], T]) -> T:
        """The result of `step`. Raises StoreFull if a stop is requested meanwhile."""
        runtime = self._runtime
        while True:
            try:
                return step()
            except StoreFull as error:
                if not self._is_waiting:
                    self._is_waiting = True
                    runtime.log.error(
                        "the disk is full; starting when there is room", extra={"error": str(error)}
                    )
                    self._on_wait()
                if runtime.stop_signal.requests:
                    raise
                runtime.idle(_RETRY_S)

    def over(self) -> None:
        """All steps are done."""
        if self._is_waiting:
            self._runtime.log.warning("the store works again")
