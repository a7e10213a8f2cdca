"""Whether a worker can find a handler: asked where it is registered, before a job of it is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from mpdispatch.errors import RegistrationError
from mpdispatch.execution.app_reference import AppEngine, targets_of
from mpdispatch.execution.process_context import in_worker
from mpdispatch.handlers.registry import JobDefinition

__all__ = ["refuse_absent", "refuse_hidden"]

_REMEDY = "define it at the top level of a module, or register it while its module is imported"


def refuse_hidden(engine: AppEngine, definition: JobDefinition) -> None:
    """Refuse a function nested in another (or a lambda) that no worker comes by when it imports the app.

    A worker runs module bodies again, and so has what is registered from there, nested or not. It does not call what
    this program calls later on. An engine that is in no module is somebody else's to find: a factory may make it.

    Raises:
        RegistrationError: it is nested, registered after the import, and on an engine that workers import.
    """
    qualname = getattr(definition.function, "__qualname__", "")
    if in_worker() or not ("<locals>" in qualname or qualname.endswith("<lambda>")):
        return
    importing = set(_importing())
    if importing - {"__main__"}:
        return
    homes = {target.partition(":")[0] for target in targets_of(engine)}
    # Whether the main program would do it again, we cannot tell here: `refuse_absent` can, once a worker has done so.
    is_mains = "__main__" in homes or getattr(definition.function, "__module__", None) == "__main__"
    if homes and not ("__main__" in importing and is_mains):
        raise _lost(definition)


def refuse_absent(definitions: Iterable[JobDefinition], found: Iterable[str]) -> None:
    """Refuse handlers that a worker has not come by when it imported the app, and cannot import either.

    Raises:
        RegistrationError: names the first of them.
    """
    known = frozenset(found)
    for definition in definitions:
        if definition.name not in known and definition.reference is None:
            raise _lost(definition)


def _importing() -> Iterator[str]:
    """The modules whose bodies are running, here and now."""
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        frame = caller
        name = str(frame.f_globals.get("__name__"))
        # What is executed under a name of its own, but is no module, is not imported by anybody.
        if frame.f_code.co_name == "<module>" and vars(sys.modules.get(name, sys)) is frame.f_globals:
            yield name


def _lost(definition: JobDefinition) -> RegistrationError:
    return RegistrationError(
        f"job {definition.name!r}: no worker can find {definition.where}, which is not there when a worker imports"
        f" the app; {_REMEDY}"
    )
