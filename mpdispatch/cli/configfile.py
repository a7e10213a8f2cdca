"""The YAML configuration file: which one counts, and what it says. PyYAML is loaded only when there is one.

Under the key `extensions.dispatch`, else `dispatch`, a file has the fields of Config and `store`, `app` and
`queue_configs`. It is read strictly: everything wrong with it is reported at once, each fault by its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpdispatch.config import Config, QueueConfig
from mpdispatch.errors import ConfigError, Fault
from mpdispatch.policy.names import shown

__all__ = ["NAMES", "FileSettings", "Section", "file_settings", "find_section"]

NAMES = ("mpdispatch.yaml", "app.yaml", "config.yaml", "forge.yaml")

_KEYS = (("extensions", "dispatch"), ("dispatch",))

# Other programs own such files too, some in no plain YAML: one that cannot have our key is not parsed.
_MAY_BE_OURS = re.compile(rb"""\bdispatch["']?\s*:""")


@dataclass(frozen=True, slots=True)
class Section:
    """Our part of a configuration file."""

    path: Path
    key: str
    """Where in the file: `extensions.dispatch` or `dispatch`."""
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The file and our key in it, for messages."""
        return f"{self.path}: {self.key}"

    def path_of(self, key: str) -> str:
        """The file and the whole path of a key in it."""
        return f"{self.path}: {self.key}.{key}"


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What a configuration file says. Checked, but for the meaning of `store` and `app`."""

    section: Section
    store: str | None
    app: str | None
    config: Mapping[str, Any]
    """Fields of Config, as they stand in the file."""
    queue_configs: tuple[QueueConfig, ...]


# Keys beside the fields of Config. Some are for an app's extension: one file serves both.
_TEXTS = ("store", "app", "base_path", "grove_database", "grove_kv")
_SWITCHES = ("disable_routes", "disable_migrate")


def file_settings(explicit: str | None) -> FileSettings | None:
    """The settings of the file `explicit`, or of the first well-known one here that has our key.

    Raises:
        ConfigError: every fault of the file, each by its path.
    """
    section = find_section(explicit)
    if section is None:
        return None
    rest = dict(section.values)
    others = {key: rest.pop(key) for key in (*_TEXTS, *_SWITCHES) if key in rest}
    faults = list(_misfits(section, others))
    queue_configs, queue_faults = _queue_configs(section, rest.pop("queue_configs", None))
    try:
        Config.resolve({}, file=rest, file_key=f"{section.path}: {section.key}")
    except ConfigError as error:
        faults.extend(error.faults)
    if faults or queue_faults:
        raise ConfigError([*faults, *queue_faults])
    return FileSettings(section, others.get("store"), others.get("app"), rest, queue_configs)


def _misfits(section: Section, others: Mapping[str, Any]) -> Iterator[Fault]:
    for key, value in others.items():
        kind, words = (str, "text") if key in _TEXTS else (bool, "true or false")
        if not isinstance(value, kind):
            yield Fault(section.path_of(key), f"must be {words}, not {shown(value)}")


def _queue_configs(section: Section, given: Any) -> tuple[tuple[QueueConfig, ...], list[Fault]]:
    if given is None:
        return (), []
    where = section.path_of("queue_configs")
    if not isinstance(given, list):
        return (), [Fault(where, "must be a list, such as [{name: bulk, max_concurrency: 2}]")]
    configs: list[QueueConfig] = []
    faults: list[Fault] = []
    for index, item in enumerate(given):
        if not isinstance(item, dict) or not all(isinstance(key, str) for key in item):
            faults.append(Fault(f"{where}[{index}]", "must be a mapping with a name"))
            continue
        try:
            configs.append(QueueConfig(**item))
        except ConfigError as error:
            faults.extend(Fault(f"{where}[{index}].{fault.key}", fault.message) for fault in error.faults)
    names = [config.name for config in configs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    faults += [Fault(where, f"the queue {name!r} is there twice") for name in repeated]
    return tuple(configs), faults


def find_section(explicit: str | None, folder: Path = Path()) -> Section | None:
    """Our section of the file `explicit`, or of the first well-known file in `folder` that has one.

    Raises:
        ConfigError: an explicit file is missing, unreadable or has no such key; or a file is no YAML.
    """
    if explicit is not None:
        path = Path(explicit)
        section = _section(path, _read(path))
        if section is None:
            raise ConfigError([Fault(str(path), "has neither the key extensions.dispatch nor dispatch")])
        return section
    for name in NAMES:
        path = folder / name
        if path.is_file() and _MAY_BE_OURS.search(text := _read(path)) and (section := _section(path, text)):
            return section
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([Fault(str(path), f"cannot be read: {error.strerror}")]) from error


def _section(path: Path, text: bytes) -> Section | None:
    document = _parse(path, text)
    for keys in _KEYS:
        found: Any = document
        for key in keys:
            found = found.get(key, _ABSENT) if isinstance(found, dict) else _ABSENT
        if found is _ABSENT:
            continue
        where = ".".join(keys)
        if found is None:
            found = {}
        if not isinstance(found, dict):
            raise ConfigError([Fault(f"{path}: {where}", "must be a mapping of settings")])
        if wrong := [key for key in found if not isinstance(key, str)]:
            raise ConfigError(Fault(f"{path}: {where}", f"the key {key!r} must be text") for key in wrong)
        return Section(path, where, found)
    return None


_ABSENT = object()


def _parse(path: Path, text: bytes) -> Any:
    import yaml

    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if faults := [Fault(str(path), fault) for fault in _repeated_keys(tree)]:
            raise ConfigError(faults)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError([Fault(where, f"is no YAML: {problem}")]) from error
    except (RecursionError, ValueError) as error:
        # Nested without end, or a date such as 2026-13-45.
        raise ConfigError([Fault(str(path), f"is no usable YAML: {error}")]) from error


def _repeated_keys(node: Any) -> Iterator[str]:
    """YAML lets the last of two equal keys win without a word; one of them was meant to count."""
    import yaml

    stack, seen_nodes = [node], set[int]()
    while stack:
        item = stack.pop()
        if id(item) in seen_nodes:  # an alias
            continue
        seen_nodes.add(id(item))
        if isinstance(item, yaml.MappingNode):
            keys = set[str]()
            for key, value in item.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys and key.value != "<<":
                        yield f"line {key.start_mark.line + 1}: the key {key.value!r} is there twice"
                    keys.add(key.value)
                stack.append(value)
        elif isinstance(item, yaml.SequenceNode):
            stack.extend(item.value)
