"""Logging in a process that runs the app: as the app sets it up when it is imported, else as we do.

Ours comes after the import. `logging.basicConfig` does nothing where a handler is already, so with ours there first a
worker that imports the app kept our format and level, and one forked from a process that had imported it the app's.
"""

from __future__ import annotations

import logging

__all__ = ["await_logging", "complete_logging"]


class _Unset(int):
    """A level nobody has chosen."""


def await_logging() -> None:
    """To be called before the app is imported: remembers that nobody has set the root's level."""
    root = logging.getLogger()
    if root.level == logging.WARNING and not root.handlers:
        root.setLevel(_Unset(logging.WARNING))


def complete_logging(level: int) -> None:
    """To be called after the import: a handler if the root has none, and this level if the app has set none."""
    root = logging.getLogger()
    if root.handlers:
        return
    is_level_ours = isinstance(root.level, _Unset)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level if is_level_ours else None)
