"""An engine that no module holds, described by its parts, which modules hold. A worker builds it again from them.

Pure but for imports.

process of the engine ──▶ AppParts, JSON in its AppReference ──▶ worker: `parts_at_hand()` ──▶ another engine like it
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from mpdispatch.config import Config, QueueConfig
from mpdispatch.handlers.description import AppDescription
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.policy.backoff import BackoffSpec


class HandlerPart(msgspec.Struct, frozen=True, kw_only=True):
    """A handler: where its function is, and its options."""

    at: str
    """`module:qualname`, as of all parts."""
    name: str
    queue: str
    priority: int
    max_retries: int
    timeout_s: float | None
    backoff: BackoffSpec | None

    @classmethod
    def of(cls, definition: JobDefinition) -> HandlerPart | None:
        """The part of this handler; None: its function is not found by its name."""
        if definition.reference is None:
            return None
        return cls(
            at=definition.reference,
            name=definition.name,
            queue=definition.queue,
            priority=definition.priority,
            max_retries=definition.max_retries,
            timeout_s=definition.timeout_s,
            backoff=definition.backoff,
        )


class AppParts(msgspec.Struct, frozen=True, kw_only=True):
    """All parts of an engine."""

    store: str
    config: Config
    queue_configs: tuple[QueueConfig, ...]
    backoff: BackoffSpec | None
    handlers: tuple[HandlerPart, ...]
    middleware: tuple[str, ...]
    extensions: tuple[str, ...]

    @classmethod
    def of(
        cls,
        description: AppDescription,
        handlers: Iterable[HandlerPart],
        middleware: Iterable[str],
        extensions: Iterable[str],
    ) -> AppParts:
        """The parts of an app with this description."""
        return cls(
            store=description.store,
            config=description.config,
            queue_configs=description.queue_configs,
            backoff=description.backoff,
            handlers=tuple(handlers),
            middleware=tuple(middleware),
            extensions=tuple(extensions),
        )

    @property
    def modules(self) -> list[str]:
        """The modules of all parts, each once."""
        places = [*(each.at for each in self.handlers), *self.middleware, *self.extensions]
        return list(dict.fromkeys(map(module_of, places)))


def module_of(place: str) -> str:
    """
    >>> module_of("shop.jobs:Mail.send")
    'shop.jobs'
    """
    return place.partition(":")[0]


def find_part(place: str) -> Any:
    """The object at `module:qualname`. Raises ImportError, AttributeError."""
    module, _, qualname = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


_at_hand: AppParts | None = None


@contextmanager
def putting_together(parts: AppParts | None) -> Iterator[None]:
    """Inside it, `parts_at_hand` gives these parts."""
    global _at_hand
    _at_hand = parts
    try:
        yield
    finally:
        _at_hand = None


def parts_at_hand() -> AppParts:
    """The parts of which the engine is to be built."""
    assert _at_hand is not None  # only loading a reference that has parts calls it
    return _at_hand
