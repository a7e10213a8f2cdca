"""Limits the content of a YAML file. Pure. PyYAML is loaded when a loader is made."""

from __future__ import annotations

import functools
from typing import Any

MAX_NODES = 20_000
"""The most keys and values in a file; the content of an alias counts at each use. 0.3 s of parsing."""

_MAX_DIGITS = 1000


@functools.cache
def counting_loader() -> Any:
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
