"""Reads `.sql` files of named queries: `-- name: xyz`, a line of why, the statement.

`$name` in a statement stands for a list of columns, which the reader supplies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_LIST = re.compile(r"\$([a-z_]+)")


class Queries(Mapping[str, str]):
    """The statements of `.sql` files by name, without comments and the final semicolon. Each name is there once."""

    def __init__(self, *files: Path, lists: Mapping[str, str] | None = None) -> None:
        self._texts: dict[str, str] = {}
        for file in files:
            _parse(file.read_text(encoding="utf-8"), self._texts)
        for name, text in self._texts.items():
            self._texts[name] = _LIST.sub(lambda found: (lists or {})[found[1]], text)

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _parse(text: str, found: dict[str, str]) -> None:
    name, lines = "", list[str]()
    for line in [*text.splitlines(), "-- name:"]:
        if line.startswith("-- name:"):
            if name:
                if name in found:
                    raise ValueError(f"two queries are named {name!r}")
                found[name] = "\n".join(lines).strip().removesuffix(";")
            name, lines = line.removeprefix("-- name:").strip(), []
        elif not line.lstrip().startswith("--"):
            lines.append(line)
