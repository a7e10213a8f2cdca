"""What a connection is to the modules of this room: `sqlite3.Connection` has this face, and each other backend's own.

All statements are written in SQLite's dialect, with `?` or `:name`. A backend that speaks another one translates them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Parameters = Sequence[Any] | Mapping[str, Any]


class Cursor(Protocol):
    """The outcome of one statement. Its rows are tuples; a backend may read them as they are asked for."""

    @property
    def rowcount(self) -> int:
        """Number of rows that an INSERT, UPDATE or DELETE has touched; of `executemany`, of all together."""
        ...

    @property
    def lastrowid(self) -> int | None:
        """Id of the row that an INSERT of one row has made."""
        ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __next__(self) -> Any: ...

    def close(self) -> None: ...


class Connection(Protocol):
    """One connection within a transaction or a read. Savepoints are statements."""

    text_factory: Any
    """`mending.lenient` while text that is not UTF-8 is read as bytes; a backend whose text is always UTF-8 ignores it."""

    @property
    def IntegrityError(self) -> type[Exception]:  # noqa: N802 - the name that PEP 249 gives it
        """What is raised if a constraint refuses a statement."""
        ...

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor: ...

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor: ...


Work = Callable[[Connection], T]
"""What is done within one transaction or one read."""
