"""What a store offers for moving all of it to another one: `Transfer`, an optional face of `contract.Store`.

    source   freeze ─▶ rows, page by page ───────────────────────────────▶ freeze for good, or unfreeze
    target             begin ─▶ write, each page with how far it has come ─▶ finish

A store that is frozen, and one that is being filled, refuses every change with StoreMoved, whoever makes it: the database
does so itself, so it costs a store that is not moved nothing. Reads go on. `engine/moving.py` moves one store to another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from mpdispatch.store.tables import Key, Row, Table

_BITS = 128
_encode = msgspec.json.Encoder().encode


class Sum(msgspec.Struct, frozen=True):
    """Number and checksum of rows, whatever their order: stores sort texts differently.

    The checksum is the sum, modulo 2 ** 128, of the BLAKE2b hashes of the rows, each a JSON array without white space.
    """

    rows: int = 0
    checksum: str = "0" * (_BITS // 4)

    def plus(self, rows: Iterable[Row]) -> Sum:
        """The sum of these rows too.

        >>> both = Sum().plus([(1, "a"), (2, None)])
        >>> both == Sum().plus([(2, None)]).plus([(1, "a")]), both.rows, both.checksum
        (True, 2, '03238f66581cdd34ed55f7db432dd57a')
        """
        import hashlib  # a megabyte that only a move needs

        count, total = self.rows, int(self.checksum, 16)
        for row in rows:
            count += 1
            total += int.from_bytes(hashlib.blake2b(_encode(row), digest_size=_BITS // 8).digest(), "big")
        return Sum(count, f"{total % (1 << _BITS):0{_BITS // 4}x}")


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """The mark of a store that is being moved, or was moved, to another one."""

    move: str
    """Random: the same in both stores."""
    to: str
    """The other store as people see it, without a password."""
    is_done: bool = False

    @property
    def detail(self) -> str:
        """What an error of the store says."""
        if self.is_done:
            return f"was moved to {self.to}; use that store, as nothing can be changed here any more"
        return (
            f"is being moved to {self.to}, and nothing can be changed here until `mpdispatch migrate-store` has finished"
            " (run it again if it was ended; --abandon gives up)"
        )


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """How far one table has come."""

    after: Key
    """Key of the last row that was read, in the order of the source."""
    sum: Sum
    """Of all rows so far, as the source gave them and this store holds them."""
    is_done: bool = False


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """The mark of a store that is being filled, or was filled, with what another one had."""

    move: str
    source: str
    """The other store as people see it, without a password."""
    tables: Mapping[str, Copied] = {}
    is_done: bool = False

    @property
    def detail(self) -> str:
        """What an error of the store says, until it is done."""
        return (
            f"is being filled with what {self.source} holds, and is of no use until `mpdispatch migrate-store` has finished"
            " (run it again if it was ended)"
        )


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a store stands, before it is moved or filled."""

    outgoing: Outgoing | None
    incoming: Incoming | None
    rows: Mapping[str, int]
    """Number of rows in each table."""
    running: int
    """Number of jobs that some supervisor holds."""

    @property
    def is_empty(self) -> bool:
        return not any(self.rows.values())


class Transfer(Protocol):
    """All rows of a store, and its marks. Each method is one transaction or one consistent read. Raises StoreError."""

    def tables(self) -> Sequence[Table]:
        """The tables, in the order in which they are to be written."""
        ...

    def standing(self) -> Standing: ...

    def rows(self, table: Table, after: Key, limit: int) -> list[Row]:
        """Up to `limit` rows whose keys come after this one, in the order of the key. None: that was all."""
        ...

    def last_ids(self) -> Mapping[str, int]:
        """The highest id that was ever given in each of `tables.COUNTED`, pruned or not; 0: none was."""
        ...

    # -- the source -----------------------------------------------------------------------------

    def freeze(self, outgoing: Outgoing, idle: Collection[int] = ()) -> None:
        """Mark the store as being moved, or as moved, and refuse changes from now on.

        `idle`: supervisors that are registered and do not live. Their registrations are deleted: should one of them be
        there all the same, it has lost its lease. Raises StoreError, and changes nothing, if jobs are running or another
        supervisor is registered.
        """
        ...

    def unfreeze(self) -> None:
        """Delete that mark and allow changes again. Does nothing if it is not there."""
        ...

    # -- the target -----------------------------------------------------------------------------

    def fitting(self, table: Table, rows: list[Row]) -> list[Row]:
        """The rows as this store can hold them: some cannot hold every text, such as one with U+0000."""
        ...

    def begin(self, incoming: Incoming) -> None:
        """Mark the store as being filled, and refuse changes from now on. Raises StoreError if it is not empty."""
        ...

    def write(self, table: Table, rows: Sequence[Row], before: Incoming, now: Incoming) -> None:
        """Insert rows and replace the mark, in one transaction. Raises StoreError unless the mark was `before`."""
        ...

    def finish(self, last_ids: Mapping[str, int], before: Incoming, now: Incoming) -> None:
        """Never give an id up to these again, replace the mark, and allow changes. Raises StoreError as `write`."""
        ...
