"""What a supervisor is to do: the settings that the app, its user and the environment have chosen. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mpdispatch.config import Config, QueueConfig
from mpdispatch.events.queue import NoticeQueue
from mpdispatch.execution.catalog import Catalog
from mpdispatch.model import DeclaredCrons
from mpdispatch.store.contract import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All settings of a supervisor. `mpdispatch supervise` makes it from a worker's description of the app."""

    store: Store
    config: Config
    catalog: Catalog
    queue_configs: tuple[QueueConfig, ...] = ()
    store_for_workers: str | None = None
    """The store that handlers enqueue into, if it is not the app's own."""
    default_timeout_s: float | None = None
    """The timeout of jobs without one."""
    hooks: frozenset[str] = frozenset()
    """The hooks that extensions have."""
    notice_queue: NoticeQueue | None = None
    """Takes what happened, if the hooks are in this process; None: a separate process calls them."""
    crons: Callable[[], tuple[DeclaredCrons, ...]] = tuple
    """Gives the cron entries that the app and files declare; the same tuple until there are others."""
    is_traced: bool = False
    """Whether workers hold spans back, so that they may exit by themselves before they are killed."""
