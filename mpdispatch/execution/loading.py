"""Imports the app of a reference. Runs in the worker process, once, before its first job; and in the command line.

Logging is as the app sets it up during its import, else with our defaults. These are set after the import, because the
app's `logging.basicConfig` does nothing where a handler exists. With ours first, workers differed: one that imported
the app had our format and level, and one forked from a process that had imported the app had the app's.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import os
import sys
from importlib.machinery import SourceFileLoader
from typing import Any

from mpdispatch.errors import AppImportError, AppReferenceError, DispatchError
from mpdispatch.execution.app_reference import AppEngine, AppReference, engine_of, parse_target
from mpdispatch.execution.codec import error_info
from mpdispatch.execution.process_context import rerunning_main
from mpdispatch.fstext import unpacked
from mpdispatch.handlers.registry import definition_of
from mpdispatch.handlers.safejson import printable
from mpdispatch.policy.names import nearest

_IMPORTERS = ("<frozen importlib", importlib.__file__, __file__)


def load(reference: AppReference) -> AppEngine:
    """The engine behind a reference, with the handlers of all its modules.

    Sets `sys.path`, the working folder and `sys.argv` of this process as the reference says. The app may set up logging
    during its import; `complete_logging` does the rest.

    Raises:
        AppImportError: importing failed, or code of the app that was then called; carries the text of the traceback.
        AppReferenceError: everything was imported, but there is no such attribute, or it is no engine.
    """
    module_name, attribute = parse_target(reference.target)
    try:
        _enter(reference)
        _await_logging()
        if reference.main_path is not None or reference.main_module is not None:
            _run_main_again(reference)
        found: Any = importlib.import_module(module_name)
        for name in reference.imports:
            importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            # The app's own module is missing; a traceback would show only the import system.
            reason = f"there is no module {error.name!r} in {printable(os.getcwd())} or on Python's path"
            raise AppImportError(str(reference), reason) from error
        raise _import_error(reference, error) from error
    try:
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise AppReferenceError(_no_attribute(found, part), app=str(reference))
            found = getattr(found, part)
        return _engine_from(found, reference)
    except AppReferenceError:
        raise
    except (Exception, SystemExit) as error:  # of a factory, or of a property
        raise _import_error(reference, error) from error


def _engine_from(found: Any, reference: AppReference) -> AppEngine:
    """The engine that the target is, has, or returns when it is called as a factory."""
    engine, verb = engine_of(found), "is"
    if reference.parts is not None:
        engine = engine_of(_called(found, reference, reference.parts))
    elif engine is None and callable(found) and definition_of(found) is None:
        needed = _needed(found)
        if not needed:
            found, verb = _called(found, reference), "is a factory, and what it returned"
            engine = engine_of(found)
        elif inspect.isroutine(found) or isinstance(found, type):
            text = f"needs arguments ({', '.join(needed)}); a factory of an app is called without any"
            raise AppReferenceError(text, app=str(reference))
    if engine is None:
        kind = type(found).__name__
        verb = verb if verb == "is" else f"{verb} is"
        raise AppReferenceError(
            f"{verb} a {kind}, neither an Engine nor an object with .engine", app=str(reference)
        )
    return engine


def _needed(factory: Any) -> list[str]:
    """The names of its required arguments."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return []  # it has no signature to read
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in several]


def _called(factory: Any, reference: AppReference, *arguments: object) -> Any:
    if inspect.iscoroutinefunction(factory):
        raise AppReferenceError("is an async function; a factory of an app is a plain one", app=str(reference))
    return factory(*arguments)


def _import_error(reference: AppReference, error: BaseException) -> AppImportError:
    info = error_info(_without_importers(error))
    reason = info.message if isinstance(error, DispatchError) else str(info)
    return AppImportError(str(reference), reason, info.traceback)


def _without_importers(error: BaseException) -> BaseException:
    """The error, its traceback beginning in the user's code instead of in the import system."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_IMPORTERS):
        frame = frame.tb_next
    return error.with_traceback(frame)


def _no_attribute(found: Any, name: str) -> str:
    where = getattr(found, "__name__", None) or type(found).__name__
    if where == "__mp_main__":
        return (
            f"run again in a worker, the main program has no {name!r}; define the engine and its handlers at the "
            'top level, outside of `if __name__ == "__main__":`'
        )
    near = nearest(name, vars(found) if hasattr(found, "__dict__") else ())
    return f"{where!r} has no attribute {name!r}" + (f"; did you mean {near!r}?" if near else "")


def _enter(reference: AppReference) -> None:
    if reference.sys_path:
        sys.path[:] = map(unpacked, reference.sys_path)
    if reference.argv:
        sys.argv[:] = map(unpacked, reference.argv)
    if reference.cwd is not None:
        os.chdir(unpacked(reference.cwd))


class _Unset(int):
    """A level that nobody has chosen."""


def _await_logging() -> None:
    """Mark the root's level as not chosen."""
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


class _MainLoader(SourceFileLoader):
    """Loads a main program from a file of any name, and writes no bytecode."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Writes nothing, as Python caches no main program."""


def _run_main_again(reference: AppReference) -> None:
    """Run the main program as module `__mp_main__`, as multiprocessing's spawn does.

    Its `if __name__ == "__main__":` part is skipped. While it runs it is already `sys.modules["__main__"]`, so that
    its definitions find their module.
    """
    original = importlib.util.find_spec(reference.main_module) if reference.main_module else None
    path = original.origin if original is not None else reference.main_path and unpacked(reference.main_path)
    if path is None:
        raise ImportError(f"no source found for the main module {reference.main_module!r}")
    loader = _MainLoader("__mp_main__", path)
    spec = importlib.util.spec_from_file_location("__mp_main__", path, loader=loader)
    assert spec is not None  # there is one whenever a loader is given
    module = importlib.util.module_from_spec(spec)
    if original is not None:  # started with `python -m`: relative imports count from its real name
        module.__spec__, module.__package__ = original, original.parent
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    with rerunning_main():
        loader.exec_module(module)
