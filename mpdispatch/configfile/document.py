"""Finds our YAML file and our section in it. Effects: reads files. PyYAML is loaded only if there is a file."""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from mpdispatch.errors import ConfigError, Fault
from mpdispatch.policy.names import shown

MAX_BYTES = 1 << 20
"""The largest configuration file. Every command reads it, and YAML is slow: 27 MB take minutes."""

MAX_NODES = 20_000
"""The most keys and values in a file; the content of an alias counts at each use. 0.3 s of parsing."""

_MAX_DIGITS = 1000

_MOST_CHUNKS = 64

NAMES = ("mpdispatch.yaml", "app.yaml", "config.yaml", "forge.yaml")

KEYS = (("extensions", "dispatch"), ("dispatch",))

# Other programs have such files, too, and some are no plain YAML. A file that cannot have our key is not parsed.
_MAY_BE_OURS = re.compile(rb"""\bdispatch["']?\s*:""")


class Section(msgspec.Struct, frozen=True):
    """Our part of a configuration file."""

    path: Path
    key: str
    """The path of our key: `extensions.dispatch` or `dispatch`."""
    values: Mapping[str, Any]
    faults: tuple[Fault, ...] = ()
    """Keys that occur twice. The reader of the values reports them together with the faults of the values."""

    @property
    def name(self) -> str:
        """The file and our key, for messages."""
        return f"{self.path}: {self.key}"


def find_section(explicit: str | None, folder: Path = Path()) -> Section | None:
    """Our section of the file `explicit`, or of the first well-known file in `folder` that has one.

    Raises ConfigError: an explicit file is missing, unreadable or has no such key; or a file is too large or no YAML.
    """
    if explicit is not None:
        path = Path(explicit)
        section = _section(path, _read(path))
        if section is None:
            raise ConfigError([Fault(str(path), "has neither the key extensions.dispatch nor dispatch")])
        return section
    for name in NAMES:
        path = folder / name
        if path.is_file() and _may_be_ours(path) and (section := _section(path, _read(path))):
            return section
    return None


def _may_be_ours(path: Path) -> bool:
    """Whether the file may have our key. It is searched in pieces, because a file of another program may be large."""
    with _opened(path) as file:
        before = b""
        for _ in range(_MOST_CHUNKS):
            if not (chunk := file.read(MAX_BYTES)):
                break
            text = before + chunk
            if b"dispatch" in text and _MAY_BE_OURS.search(text):
                return True
            before = text[-100:]  # the key may lie across two pieces
    return False


def _read(path: Path) -> bytes:
    with _opened(path) as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        fault = f"is larger than {MAX_BYTES:,} bytes, the most a configuration file may have"
        raise ConfigError([Fault(str(path), f"{fault}; keep ours in a file of its own and name it (--config)")])
    return text


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # O_NONBLOCK: a FIFO without a writer must not keep us waiting.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            # A device may be endless.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError([Fault(str(path), "is no regular file; a configuration file must be one")])
            yield file
    except OSError as error:
        raise ConfigError([Fault(str(path), f"cannot be read: {error.strerror}")]) from error


def _section(path: Path, text: bytes) -> Section | None:
    tree, document = _parse(path, text)
    for keys in KEYS:
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
        return Section(path, where, found, tuple(_repeated_keys(tree, keys, str(path))))
    return None


_ABSENT = object()


def _parse(path: Path, text: bytes) -> tuple[Any, Any]:
    """The file as nodes, which keep lines and repeated keys, and as plain values."""
    import yaml

    try:
        tree = yaml.compose(text, Loader=_counting_loader())
        return tree, yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError([Fault(where, f"is no YAML: {problem}")]) from error
    except (RecursionError, ValueError) as error:
        # Too deeply nested, or an impossible date such as 2026-13-45.
        raise ConfigError([Fault(str(path), f"is no usable YAML: {error}")]) from error


@functools.cache
def _counting_loader() -> Any:
    """A safe loader that composes no file of more than MAX_NODES nodes.

    An alias costs nothing to compose, but whoever walks through the values meets all of it, and aliases of lists of
    aliases double with each line. So it counts as often as it stands there.
    """
    import yaml

    class CountingLoader(yaml.SafeLoader):
        def __init__(self, stream: Any) -> None:
            super().__init__(stream)
            self._count = 0
            self._counts = dict[Any, int]()
            """The number of nodes below each finished anchor."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            before = self._count
            if isinstance(event, yaml.AliasEvent):
                if event.anchor in self.anchors and event.anchor not in self._counts:
                    self._refuse(f"*{event.anchor} is part of itself", event)
                self._count += self._counts.get(event.anchor, 0)
            else:
                self._count += 1
            if self._count > MAX_NODES:
                self._refuse(f"holds more than {MAX_NODES:,} keys and values, aliases counted each time", event)
            node = super().compose_node(parent, index)
            if not isinstance(event, yaml.AliasEvent) and event.anchor is not None:
                self._counts[event.anchor] = self._count - before
            if (
                isinstance(node, yaml.ScalarNode)
                and node.tag.endswith(":int")
                and len(node.value) > _MAX_DIGITS
            ):
                self._refuse(f"a number of {len(node.value):,} digits", event)
            return node

        def _refuse(self, problem: str, event: Any) -> None:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)

    return CountingLoader


def _repeated_keys(tree: Any, way: Sequence[str], path: str) -> Iterator[Fault]:
    """The repeated keys. YAML silently takes the last one, and that may not be the one which was meant.

    Checks the keys on the `way` to our section and all keys in it. The rest of the file belongs to other programs.
    """
    for key in way:
        pairs = [pair for pair in tree.value if pair[0].value == key]
        if len(pairs) > 1:
            yield _twice(path, pairs[-1][0])
        tree = pairs[-1][1]
    yield from _repeated_within(tree, path)


def _repeated_within(tree: Any, path: str) -> Iterator[Fault]:
    import yaml

    stack, seen_nodes = [tree], set[int]()
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
                        yield _twice(path, key)
                    keys.add(key.value)
                stack.append(value)
        elif isinstance(item, yaml.SequenceNode):
            stack.extend(item.value)


def _twice(path: str, key: Any) -> Fault:
    return Fault(f"{path}:{key.start_mark.line + 1}", f"the key {shown(key.value)} is there twice")
