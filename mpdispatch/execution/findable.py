"""Refuses handlers that no worker could find, when they are registered and before a job of them is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from mpdispatch.errors import RegistrationError
from mpdispatch.execution.app_reference import AppEngine, targets_of
from mpdispatch.execution.process_context import in_worker
from mpdispatch.handlers.registry import JobDefinition

_REMEDY = "define it at the top level of a module, or register it while its module is imported"


def refuse_hidden(engine: AppEngine, definition: JobDefinition) -> None:
    """Refuse a nested function or lambda that no worker will have after it imports the app.

    A worker runs module bodies again, so it has what they register, nested or not. It does not run what this program
    calls afterwards. Engines that no module holds are not checked, because a factory may make them.

    Raises RegistrationError: the function is nested and registered after the import, on an engine that workers import.
    """
    qualname = getattr(definition.function, "__qualname__", "")
    if in_worker() or not ("<locals>" in qualname or qualname.endswith("<lambda>")):
        return
    importing = set(_importing())
    if importing - {"__main__"}:
        return
    homes = {target.partition(":")[0] for target in targets_of(engine)}
    # Only a worker shows whether the main program registers it again. `refuse_absent` checks that then.
    is_mains = "__main__" in homes or getattr(definition.function, "__module__", None) == "__main__"
    if homes and not ("__main__" in importing and is_mains):
        raise _lost(definition)


def refuse_absent(definitions: Iterable[JobDefinition], found: Iterable[str]) -> None:
    """Refuse handlers that a worker does not have after it imported the app, and that it cannot import either.

    Raises RegistrationError: names the first such handler.
    """
    known = frozenset(found)
    for definition in definitions:
        if definition.name not in known and definition.reference is None:
            raise _lost(definition)


def _importing() -> Iterator[str]:
    """The modules whose bodies are running now, in this thread."""
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        frame = caller
        name = str(frame.f_globals.get("__name__"))
        # A namespace with a name that is no module's was executed by other means, and is imported by nobody.
        if frame.f_code.co_name == "<module>" and vars(sys.modules.get(name, sys)) is frame.f_globals:
            yield name


def _lost(definition: JobDefinition) -> RegistrationError:
    return RegistrationError(
        f"job {definition.name!r}: no worker can find {definition.where}, which is not there when a worker imports"
        f" the app; {_REMEDY}"
    )
