"""An engine that no module holds, described by its parts, which modules hold. A worker builds it again from them.

Pure but for imports.

process of the engine ──▶ AppParts, JSON in its AppReference ──▶ worker: `remade(parts)` ──▶ another engine like it
"""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from mpdispatch.handlers.description import AppDescription
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


class AppParts(msgspec.Struct, frozen=True, kw_only=True):
    """All parts of an engine; the description has its store and its settings."""

    app: AppDescription
    handlers: tuple[HandlerPart, ...]
    middleware: tuple[str, ...]
    extensions: tuple[str, ...]

    @property
    def modules(self) -> list[str]:
        """The modules of all parts, each once."""
        places = [*(each.at for each in self.handlers), *self.middleware, *self.extensions]
        return list(dict.fromkeys(place.partition(":")[0] for place in places))


def find_part(place: str) -> Any:
    """The object at `module:qualname`. Raises ImportError, AttributeError."""
    module, _, qualname = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
