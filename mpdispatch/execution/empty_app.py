"""An app without handlers, for a supervisor that runs only command jobs. Runs in the worker process."""

from __future__ import annotations

import logging

from mpdispatch.config import Config
from mpdispatch.events.publish import Hooks
from mpdispatch.execution.app_reference import AppEngine
from mpdispatch.execution.middleware import Middleware
from mpdispatch.execution.telemetry import Telemetry
from mpdispatch.handlers.description import AppDescription, describe
from mpdispatch.handlers.registry import Registry


class EmptyApp:
    """What a worker needs of an engine. The command line names the store."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.middleware: tuple[Middleware, ...] = ()
        self.telemetry = Telemetry()
        self.hooks = Hooks((), self.telemetry.metrics, logging.getLogger("mpdispatch.hooks"))

    def describe(self) -> AppDescription:
        return describe(self.registry, store=":memory:", config=Config())

    def use_store(self, location: str) -> None:
        """Does nothing: this app enqueues nothing."""


app: AppEngine = EmptyApp()
