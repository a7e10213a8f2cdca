"""`engine.map`: a handler called with many items by workers, and what it returned for each."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpdispatch.engine.enqueueing import EnqueuesJobs
from mpdispatch.errors import UsageError
from mpdispatch.execution.process_context import refuse_while_importing
from mpdispatch.policy.names import check_name, shown

if TYPE_CHECKING:  # which is one of these
    from mpdispatch.engine.maps.results import MapResults

R = TypeVar("R")
T = TypeVar("T")

_WINDOW, _MOST_WINDOW = 8_000, 1_000_000


class MapsItems:
    """An engine, as far as it maps."""

    # The result of a handler that gives a coroutine is what that gives.
    @overload
    def map(
        self,
        job: EnqueuesJobs[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        name: str | None = None,
        window: int = _WINDOW,
    ) -> MapResults[T]: ...
    @overload
    def map(
        self,
        job: EnqueuesJobs[..., R],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        name: str | None = None,
        window: int = _WINDOW,
    ) -> MapResults[R]: ...
    @overload
    def map(
        self,
        job: str,
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        name: str | None = None,
        window: int = _WINDOW,
    ) -> MapResults[Any]: ...
    def map(
        self,
        job: str | EnqueuesJobs[..., Any],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        name: str | None = None,
        window: int = _WINDOW,
    ) -> MapResults[Any]:
        """What the handler returns for each item, as `map(f, items)` gives it: `for size in engine.map(measure, paths): …`

        Items are taken and enqueued as results are asked for, so there may be any number of them. A job that fails raises
        JobFailedError (a cancelled one JobCancelledError) at its place; the next `next()` goes on behind it. If no
        supervisor of the store lives, one runs in this process until all is given. The jobs are the members of a batch.

        Args:
            job: a handler, its name, or one with options: `measure.options(priority=5)`.
            iterables: of its positional arguments; the shortest one decides how many items there are.
            ordered: in the order of the items; False: as they come.
            name: whoever maps the same items under the same name again goes on where this one stopped or died: what has
                ended is given again, not run again. Without a name, closing it early (`close()`, a `break` out of the loop)
                cancels what is left.
            window: how many jobs at most are enqueued ahead of what was given.

        Raises:
            UsageError: an argument is not allowed; or, while it goes on, the items differ from those under this name.
            PayloadError: at its place, an item does not fit the handler.
        """
        from mpdispatch.engine.engine import Engine
        from mpdispatch.engine.maps.results import MapResults

        refuse_while_importing("map")
        assert isinstance(self, Engine)
        definition, options = self.target_of("map: job", job)
        for field in ("idempotency_key", "connection"):
            if getattr(options, field) is not None:
                raise UsageError(f"{field}: map takes none")
        if not iterables:
            raise UsageError("map: items: give at least one iterable of arguments: map(measure, paths)")
        for each in iterables:
            if isinstance(each, (str, bytes)) or not isinstance(each, Iterable):
                raise UsageError(f"map: items: must be an iterable of arguments, not {shown(each)}")
        if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= _MOST_WINDOW:
            raise UsageError(f"window: must be a whole number from 1 to {_MOST_WINDOW:,}, not {shown(window)}")
        if name is not None:
            check_name("name", name)
        items = zip(*iterables, strict=False)
        return MapResults(self, definition, options, items, is_ordered=bool(ordered), name=name, window=window)
