"""Durable background jobs for one machine that just work.

    engine = Engine.open("jobs.db")

    @engine.job
    def render(path: str, dpi: int = 300) -> dict: ...

    render.enqueue("a.pdf", dpi=600)

Importing this loads nothing but itself: the public names come with the first look at one of them. So the
command line's `--help` and the start of a worker need not wait for what they do not use. What supervises is
loaded by `Dispatcher.start` and `run`.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    from mpdispatch.errors import PlatformError

    raise PlatformError(
        "mpdispatch needs Linux or macOS: worker processes there are ended and watched by Unix means"
    )

if TYPE_CHECKING:
    from mpdispatch.face import *  # noqa: F403  its __all__ is the list of public names
else:  # for type checkers there is no __getattr__: it would make every misspelt name an Any

    def __getattr__(name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        # Submodules first: a room below the face imports its neighbours by `from mpdispatch import sqlite3`.
        try:
            return import_module(f"mpdispatch.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"mpdispatch.{name}":
                raise
        face = import_module("mpdispatch.face")
        if not hasattr(face, name):
            raise AttributeError(f"module 'mpdispatch' has no attribute {name!r}")
        globals()[name] = value = getattr(face, name)
        return value

    def __dir__() -> list[str]:
        return sorted(import_module("mpdispatch.face").__all__)
