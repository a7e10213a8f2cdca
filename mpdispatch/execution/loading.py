"""Imports the app that a reference names. Runs in the worker process, once, before its first job."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
from types import CodeType, ModuleType
from typing import Any

from mpdispatch.errors import AppImportError, AppReferenceError
from mpdispatch.execution.appref import AppEngine, AppReference, engine_of, parse_target
from mpdispatch.execution.codec import error_info

__all__ = ["load"]


def load(reference: AppReference) -> AppEngine:
    """The engine behind a reference, with the handlers of all its modules.

    Makes `sys.path`, the working folder and `sys.argv` of this process those of the reference.

    Raises:
        AppImportError: importing failed; carries the text of the traceback.
        AppReferenceError: everything was imported, but there is no such attribute, or it is no engine.
    """
    module_name, attribute = parse_target(reference.target)
    try:
        _enter(reference)
        if reference.main_path is not None or reference.main_module is not None:
            _run_main_again(reference)
        found: Any = importlib.import_module(module_name)
        for name in reference.imports:
            importlib.import_module(name)
    except (Exception, SystemExit) as error:
        info = error_info(error)
        raise AppImportError(str(reference), str(info), info.traceback) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise AppReferenceError(
                f"app {str(reference)!r}: {getattr(found, '__name__', found)!r} has no attribute {part!r}"
            )
        found = getattr(found, part)
    engine = engine_of(found)
    if engine is None:
        kind = type(found).__name__
        raise AppReferenceError(
            f"app {str(reference)!r} is a {kind}, neither an Engine nor an object with .engine"
        )
    return engine


def _enter(reference: AppReference) -> None:
    if reference.sys_path:
        sys.path[:] = reference.sys_path
    if reference.argv:
        sys.argv[:] = reference.argv
    if reference.cwd is not None:
        os.chdir(reference.cwd)


def _run_main_again(reference: AppReference) -> None:
    """Run the main program as module `__mp_main__`, as multiprocessing's spawn does.

    Its `if __name__ == "__main__":` part is skipped. It is `sys.modules["__main__"]` already while it runs, so
    that what it defines finds its own module.
    """
    module = ModuleType("__mp_main__")
    code = (
        _code_of_module(reference.main_module, module)
        if reference.main_module
        else _code_of_script(reference, module)
    )
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    exec(code, module.__dict__)  # noqa: S102 - the user's own main program


def _code_of_module(name: str, module: ModuleType) -> CodeType:
    spec = importlib.util.find_spec(name)
    code = spec.loader.get_code(name) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]
    if spec is None or not isinstance(code, CodeType):
        raise ImportError(f"no code found for the main module {name!r}", name=name)
    module.__spec__, module.__loader__ = spec, spec.loader
    module.__package__, module.__file__ = spec.parent, spec.origin
    return code


def _code_of_script(reference: AppReference, module: ModuleType) -> CodeType:
    path = reference.main_path or ""
    module.__file__ = path
    with io.open_code(path) as file:
        return compile(file.read(), path, "exec", dont_inherit=True)
