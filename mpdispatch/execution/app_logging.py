"""Logging in a process that runs the app: as the app sets it up during its import, else with our defaults.

Our defaults are set after the import, because the app's `logging.basicConfig` does nothing where a handler exists. With
ours first, workers differed: one that imported the app had our format and level, and one forked from a process that had
imported the app had the app's.
"""

from __future__ import annotations

import logging


class _Unset(int):
    """A level that nobody has chosen."""


def await_logging() -> None:
    """Call it before the app is imported: marks the root's level as not chosen."""
    root = logging.getLogger()
    if root.level == logging.WARNING and not root.handlers:
        root.setLevel(_Unset(logging.WARNING))


def complete_logging(level: int) -> None:
    """Call it after the import: adds a handler if the root has none, and sets this level if the app has set none."""
    root = logging.getLogger()
    if root.handlers:
        return
    is_level_ours = isinstance(root.level, _Unset)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level if is_level_ours else None)
