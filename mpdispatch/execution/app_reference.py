"""Where a worker finds the app's handlers: a reference that crosses processes as JSON.

`find_reference` makes one in the process that has the engine; `loading.load` follows it in a worker. Neither imports
the Engine class: an `AppEngine`, or an object with one as `.engine`, is enough.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Protocol, cast

import msgspec

from mpdispatch.errors import AppReferenceError
from mpdispatch.events.publish import Hooks
from mpdispatch.execution.app_parts import AppParts, HandlerPart
from mpdispatch.execution.middleware import Middleware
from mpdispatch.execution.telemetry import Telemetry
from mpdispatch.fstext import packed, readable
from mpdispatch.handlers.description import AppDescription
from mpdispatch.handlers.registry import JobDefinition, Registry
from mpdispatch.policy.names import shown

_REMADE = "mpdispatch.engine.remade:remade"
"""As text, because it is on a floor above and only workers need it."""
_REMEDIES = (
    "put it into a module that can be imported and name it (`mpdispatch supervise module:attribute`), "
    "or run a script file instead of stdin, -c or a shell"
)


class AppEngine(Protocol):
    """What a worker needs of an engine."""

    @property
    def registry(self) -> Registry: ...

    @property
    def hooks(self) -> Hooks: ...

    @property
    def middleware(self) -> tuple[Middleware, ...]: ...

    @property
    def telemetry(self) -> Telemetry: ...

    def describe(self) -> AppDescription: ...

    def use_store(self, location: str) -> None:
        """From now on, enqueue into this store instead of the app's own."""
        ...


class AppReference(msgspec.Struct, frozen=True, kw_only=True):
    """Where the handlers of an app are, and the paths, folder and arguments that make them importable. Texts are packed."""

    target: str
    """`module:attribute` of an engine or of an object with `.engine`; the module may be `__main__`."""
    main_path: str | None = None
    """The main script, if it must be run again (as `__mp_main__`)."""
    main_module: str | None = None
    """The main module's name, if it was started with `python -m` and must be run again."""
    imports: tuple[str, ...] = ()
    """Further modules that register handlers."""
    sys_path: tuple[str, ...] = ()
    """Empty: the worker keeps its own."""
    cwd: str | None = None
    argv: tuple[str, ...] = ()
    parts: AppParts | None = None
    """The parts of the engine, if no module holds it."""

    def __str__(self) -> str:
        if self.parts is not None:
            return f"an engine with handlers of {', '.join(self.parts.modules)}"
        module, _, attribute = self.target.partition(":")
        return (
            f"{self.main_module or readable(self.main_path or '')}:{attribute}"
            if module == "__main__"
            else self.target
        )


def parse_target(text: str) -> tuple[str, str]:
    """The module and the (dotted) attribute of `module:attribute`.

    >>> parse_target("shop.jobs:app.engine")
    ('shop.jobs', 'app.engine')

    Raises AppReferenceError: it has another form.
    """
    module, colon, attribute = text.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise AppReferenceError(
            f"{shown(text)} names no app; it takes the form module:attribute, e.g. shop.jobs:engine"
        )
    return module, attribute


def reference_to(target: str) -> AppReference:
    """The reference to a target that somebody typed. The current folder becomes importable.

    Raises AppReferenceError: it is no `module:attribute`.
    """
    parse_target(target)
    return _here(target, path=[os.getcwd(), *sys.path])


def engine_of(thing: Any) -> AppEngine | None:
    """The engine that a target names: the thing itself, or its `.engine`."""
    for candidate in (thing, getattr(thing, "engine", None)):
        if isinstance(getattr(candidate, "registry", None), Registry):
            return cast(AppEngine, candidate)
    return None


# ---------------------------------------------------------------- finding it


def find_reference(engine: AppEngine) -> AppReference:
    """How a worker finds this very engine and all of its handlers.

    Searches the attributes of all imported modules. The worker runs a main script or module again if only that holds
    the engine, or if it defines handlers. An engine that no module holds is built again from its parts, if modules hold
    all of them: handlers, middleware and extensions.

    Raises AppReferenceError: no module holds it, or only a main program that cannot be run again.
    """
    homes = [definition.function.__module__ for definition in engine.registry.definitions()]
    homes = list(dict.fromkeys(home for home in homes if home in sys.modules))
    if found := targets_of(engine):
        return _in_modules(min(found, key=lambda target: _rank(target, homes)), homes)
    return _by_parts(engine)


def _in_modules(target: str, modules: list[str], parts: AppParts | None = None) -> AppReference:
    """The reference to a target, with the further modules that hold handlers or parts of it."""
    module = target.partition(":")[0]
    path, name = _main() if "__main__" in (module, *modules) else (None, None)
    here = _here(target, path=sys.path)
    return msgspec.structs.replace(
        here,
        main_path=None if path is None else packed(path),
        main_module=name,
        imports=tuple(each for each in modules if each not in (module, "__main__")),
        parts=parts,
    )


def _by_parts(engine: AppEngine) -> AppReference:
    """The reference by parts. Raises AppReferenceError: the engine has none, or one that no module holds."""
    definitions = engine.registry.definitions()
    if not definitions:
        raise _unreachable(", and it has no handler yet that a worker could have")
    others = [*engine.middleware, *engine.hooks.extensions]
    places = {id(each): place for each in others if (place := _place_of(each)) is not None}
    lost = [f"handler {each.name!r} ({each.where})" for each in definitions if each.reference is None]
    lost += [f"the {type(each).__name__} {each!r:.60}" for each in others if id(each) not in places]
    if engine.telemetry.has_providers:
        lost.append("a tracer_provider or meter_provider of its own")
    if lost:
        text = f"{'; '.join(lost)} cannot be imported by name"
        raise _unreachable(f", nor can it be built again there: {text}")
    parts = AppParts(
        app=engine.describe(),
        handlers=tuple(map(_part_of, definitions)),
        middleware=tuple(places[id(each)] for each in engine.middleware),
        extensions=tuple(places[id(each)] for each in engine.hooks.extensions),
    )
    return _in_modules(_REMADE, parts.modules, parts)


def _part_of(definition: JobDefinition) -> HandlerPart:
    at = definition.reference
    assert at is not None  # it was found a moment ago
    return HandlerPart(
        at=at,
        name=definition.name,
        queue=definition.queue,
        priority=definition.priority,
        max_retries=definition.max_retries,
        timeout_s=definition.timeout_s,
        backoff=definition.backoff,
    )


def _unreachable(why: str) -> AppReferenceError:
    return AppReferenceError(
        f"no module has this engine as an attribute, so no worker can find it{why}: make it a global of its module "
        f"(engine = ... at the top level), or {_REMEDIES}"
    )


def _place_of(thing: Any) -> str | None:
    """The `module:qualname` by which a worker finds the object, or None."""
    module, qualname = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module in sys.modules and qualname:
        found: Any = sys.modules[module]
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if found is thing:
            return f"{module}:{qualname}"
    return next(iter(_by_identity(thing)), None)


def targets_of(engine: AppEngine) -> list[str]:
    """Every `module:attribute` in the imported modules that is this engine; if there is none, that has it as `.engine`."""
    return _by_identity(engine) or _by_attribute(engine)


def _rank(target: str, homes: list[str]) -> tuple[bool, bool, int]:
    """Sort key: importable modules before main, modules that define handlers before others, short paths first."""
    module = target.partition(":")[0]
    return module == "__main__", module not in homes, target.count(".")


def _modules() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, module in list(sys.modules.items()):
        # Modules of ours may hold the engine in a global. Those without a spec were never imported by name.
        is_main = name == "__main__"
        if not isinstance(module, ModuleType) or name.startswith("mpdispatch.") or name == "__mp_main__":
            continue
        if is_main or getattr(module, "__spec__", None) is not None:
            yield name, dict(vars(module))


def _by_identity(engine: object) -> list[str]:
    return [
        f"{name}:{attribute}"
        for name, attributes in _modules()
        for attribute, value in attributes.items()
        if value is engine and attribute.isidentifier()
    ]


def _by_attribute(engine: AppEngine) -> list[str]:
    kinds: dict[type, bool] = {}
    return [
        f"{name}:{attribute}"
        for name, attributes in _modules()
        for attribute, value in attributes.items()
        if attribute.isidentifier() and _may_carry(value, kinds) and _carries(value, engine)
    ]


def _may_carry(value: object, kinds: dict[type, bool]) -> bool:
    """Whether the value may have an attribute `engine`. A quick filter before `_carries`.

    The process of a web app has some 20,000 values. `getattr_static` on each takes 0.2 s, with this filter an eighth.
    """
    if isinstance(value, type):
        return any("engine" in base.__dict__ for base in value.__mro__)
    kind = type(value)
    has = kinds.get(kind)
    if has is None:
        has = kinds[kind] = any("engine" in base.__dict__ for base in kind.__mro__)
    if has:
        return True
    try:
        # Without calling a __getattr__ of its class, see below.
        return "engine" in object.__getattribute__(value, "__dict__")
    except AttributeError:
        return False


def _carries(value: object, engine: AppEngine) -> bool:
    # Without getattr, which on every object of a process would load lazy modules and trigger proxies.
    try:
        held = inspect.getattr_static(value, "engine")
        return (value.engine if isinstance(held, property) else held) is engine  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - other people's objects; whatever fails here is not ours
        return False


def _main() -> tuple[str | None, str | None]:
    """The path or the module name by which the main program can be run again."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return None, spec.name
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        raise AppReferenceError(
            f"the engine or a handler is in the main program, and this one cannot be run again; {_REMEDIES}"
        )
    return os.path.abspath(path), None


def _here(target: str, *, path: list[str]) -> AppReference:
    """The reference to a target in this process, to be found on this path."""
    return AppReference(
        target=target,
        # "" is the current folder, which a handler may change.
        sys_path=tuple(
            dict.fromkeys(packed(os.path.abspath(entry) if entry == "" else entry) for entry in path)
        ),
        cwd=packed(os.getcwd()),
        argv=tuple(map(packed, sys.argv)),
    )
