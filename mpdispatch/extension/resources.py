"""The application's resources by name, from a mapping, a callable or an svcs container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, get_args, get_origin

from mpdispatch.errors import ConfigError, Fault
from mpdispatch.extension.detect import Detected, Kind, detect, kind_of_type
from mpdispatch.policy.names import shown
from mpdispatch.store.callers import names_of


class Resources(Protocol):
    """Finds databases and key-value stores of the application. `""` names the default one."""

    def find(self, kind: Kind, name: str) -> Detected | None:
        """The resource of this kind and name, or None.

        The default is the entry `""`, else the only one there is of the kind.

        Raises UsageError, ConfigError: there is something of this name, but of another kind.
        """
        ...

    def list(self, kind: Kind) -> str:
        """The resources of a kind, for an error text."""
        ...


def as_resources(given: Any) -> Resources:
    """The resources behind the application's `resources=` (None: it has none). Raises ConfigError."""
    if given is None:
        return _Named({}, "resources= was not given")
    if isinstance(given, Mapping):
        return _Named(given)
    kinds = names_of(type(given))
    if "svcs.Container" in kinds:
        return _Named(_Services(given))
    if callable(given):
        return _Asked(given)
    hint = "; wrap it: svcs.Container(registry)" if "svcs.Registry" in kinds else ""
    text = f"must be a mapping of names, a callable (kind, name) or an svcs container, not {shown(given)}{hint}"
    raise ConfigError([Fault("resources", text)])


class _Named:
    """A mapping of names to objects."""

    def __init__(self, things: Mapping[Any, Any], note: str = "") -> None:
        self._things, self._note = things, note

    def find(self, kind: Kind, name: str) -> Detected | None:
        if name in self._things:
            found = detect(self._things[name])
            if name or (found is not None and found.kind in (kind, None)):
                return _checked(found, self._things[name], kind, name)
        if name:
            return None
        all_of_kind = list(self._of(kind))
        return all_of_kind[0][1] if len(all_of_kind) == 1 else None

    def _of(self, kind: Kind) -> Iterator[tuple[str, Detected]]:
        for name, thing in self._things.items():
            found = detect(thing) if isinstance(name, str) else None
            if found is not None and found.kind in (kind, None):
                yield name, found

    def list(self, kind: Kind) -> str:
        entries = [f"{name or '(default)'}: {found.what}" for name, found in self._of(kind)]
        return (
            f"there are {', '.join(entries)}"
            if entries
            else f"there are none{self._note and f', {self._note}'}"
        )


class _Asked:
    """A function that is called for each resource."""

    def __init__(self, ask: Callable[[str, str], Any]) -> None:
        self._ask = ask

    def find(self, kind: Kind, name: str) -> Detected | None:
        try:
            thing = self._ask(kind.value, name)
        except LookupError:  # `lambda kind, name: things[name]`
            return None
        return None if thing is None else _checked(detect(thing), thing, kind, name)

    def list(self, kind: Kind) -> str:
        return "the resources= function gave none, and cannot say which there are"


class _Services(Mapping[str, Any]):
    """The services of an svcs container whose types can hold jobs: `Engine` as `""`, `Annotated[Engine, "jobs"]` as `jobs`.

    Only a requested service is made.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        self._types: dict[str, Any] = {}
        for service in container.registry:
            name, kind = _named_type(service.svc_type)
            if name is not None and (kind is str or kind_of_type(kind) is not None):
                self._types.setdefault(name, service.svc_type)

    def __getitem__(self, name: str) -> Any:
        return self._container.get(self._types[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)


def _named_type(service: Any) -> tuple[str | None, type]:
    """The name and the type by which a service is registered. A name of None: it cannot be ours."""
    kind, name = service, ""
    if hasattr(service, "__metadata__"):
        kind, *_ = get_args(service)
        name = next((each for each in service.__metadata__ if isinstance(each, str)), "")
    kind = get_origin(kind) or kind  # ConnectionPool[Connection]
    # A plain `str` service may be anything, but a named one is a DSN.
    is_ours = isinstance(kind, type) and not (kind is str and not name)
    return (name if is_ours else None), kind if isinstance(kind, type) else object


def _checked(found: Detected | None, thing: object, kind: Kind, name: str) -> Detected:
    """What was found, unless it is of another kind. Raises ConfigError."""
    if found is not None and found.kind in (kind, None):
        return found
    what = found.what if found else type(thing).__qualname__
    setting = "grove_database" if kind is Kind.DATABASE else "grove_kv"
    wanted = "a database" if kind is Kind.DATABASE else "a key-value store"
    raise ConfigError([Fault(setting, f"the resource {name!r} is a {what}, not {wanted}")])
