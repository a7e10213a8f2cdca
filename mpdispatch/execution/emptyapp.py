"""An app without a handler, for a supervisor that runs command jobs only. Runs in the worker process."""

from __future__ import annotations

from mpdispatch.config import Config
from mpdispatch.execution.describe import AppDescription, describe
from mpdispatch.execution.registry import Registry

__all__ = ["app"]


class EmptyApp:
    """What a worker needs of an engine. Its supervisor was told where the store is."""

    def __init__(self) -> None:
        self.registry = Registry()

    def describe(self) -> AppDescription:
        return describe(self.registry, store=":memory:", config=Config(), queue_configs=(), backoff=None)

    def use_store(self, location: str) -> None:
        """It enqueues nothing."""


app = EmptyApp()
