"""Moves a whole store to another one, of any kind: `mpdispatch migrate-store`. Effects on both stores.

    check both ─▶ freeze the source ─▶ copy page by page ─▶ compare counts and checksums
                                                                       └─▶ open the target ─▶ mark the source as moved

Each page is one transaction of the target, which also says how far the move has come: ended at any moment, even by
SIGKILL, it goes on from there when it is run again. The marks of both stores carry one random number, so no other store's
rows get between. Until the last step but one the source is as it was; nobody can use the target before.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from mpdispatch.engine.supervisors import living_supervisors
from mpdispatch.errors import StoreError, StoreMissing, StoreMoved, UsageError
from mpdispatch.store.contract import Store
from mpdispatch.store.tables import Table
from mpdispatch.store.transfer import Copied, Incoming, Outgoing, Standing, Sum, Transfer


class Moved(NamedTuple):
    """What a move came to. Both stores hold these rows."""

    tables: Mapping[str, Sum]
    """Of each table, as the target holds it."""
    is_resumed: bool
    """An earlier call had begun it."""
    is_kept: bool
    """The source can be used further on."""


class MoveProgress(NamedTuple):
    """How far a move has come."""

    doing: str
    """`copying` or `comparing`."""
    table: str
    done: int
    total: int
    """Of all rows of all tables; each is copied, then compared."""


OnProgress = Callable[[MoveProgress], None]


def move_store(
    source: Store, target: Store, *, keep: bool = False, on_progress: OnProgress | None = None
) -> Moved:
    """Move all that `source` holds to `target`, which is made if it is not there; or go on with a move of these two.

    Ids stay as they are, and new ones come after them. From then on the source can only be read, and says so with
    StoreMoved; `keep` leaves it usable.

    Raises UsageError: it is one store, or of a kind that cannot be moved; StoreError, with what to do: a supervisor of
    one of them is running, jobs of the source are, the target is not empty, a schema is older, the source was moved
    elsewhere, what was copied differs.
    """
    return _Move(source, target, on_progress or (lambda _: None)).run(keep=keep)


def abandon_move(source: Store, target: Store) -> None:
    """Give up the unfinished move of `source`: it can be used again. What the target holds is of no use.

    Raises UsageError: it is not being moved; StoreMoved: it has been moved.
    """
    source.check()
    transfer = _transfer_of(source)
    outgoing = transfer.standing().outgoing
    if outgoing is None:
        raise UsageError(f"{source.display} is not being moved, so there is nothing to give up")
    if outgoing.is_done:
        raise StoreMoved(source.display, outgoing.detail)
    found = _standing_of(target)
    incoming = None if found is None else found.incoming
    if incoming is not None and incoming.move == outgoing.move and incoming.is_done:
        raise StoreMoved(
            source.display, f"has arrived in {target.display} already; run it again without --abandon"
        )
    transfer.unfreeze()


def _transfer_of(store: Store) -> Transfer:
    transfer = getattr(store, "transfer", None)  # a store of another package may have none
    if transfer is None:
        raise UsageError(f"{store.display}: a store of this kind cannot be moved")
    found: Transfer = transfer
    return found


def _standing_of(store: Store) -> Standing | None:
    """How a store stands; None: there is none yet. Raises StoreError: it cannot be used, or its schema is older."""
    try:
        store.check()
    except StoreMissing:
        return None
    return _transfer_of(store).standing()


class _Move:
    """One call of `move_store`."""

    def __init__(self, source: Store, target: Store, on_progress: OnProgress) -> None:
        self._source, self._target, self._on_progress = source, target, on_progress
        self._from, self._to = _transfer_of(source), _transfer_of(target)
        self._done = self._total = 0

    def run(self, *, keep: bool) -> Moved:
        if _is_one(self._source, self._target):
            raise self._one_store()
        self._source.check()
        here, there = self._from.standing(), _standing_of(self._target)
        outgoing, incoming = here.outgoing, _of_this_move(here, there)
        if outgoing is None or incoming is None:
            outgoing, incoming = self._begun(here, there)
        if not incoming.is_done:
            incoming = self._copied(incoming)
            self._compare(incoming)
            incoming = self._finished(incoming)
        if not outgoing.is_done:
            self._leave(outgoing, keep=keep)
        self._target.wake()
        sums = {name: each.sum for name, each in incoming.tables.items()}
        return Moved(sums, is_resumed=here.outgoing is not None, is_kept=keep and not outgoing.is_done)

    # -- may it begin? ----------------------------------------------------------------------------

    def _one_store(self) -> UsageError:
        return UsageError(f"{self._source.display} and {self._target.display} are one store; name another one")

    def _refuse_in_use(self, store: Store, standing: Standing | None) -> None:
        if standing is None:
            return
        if living := living_supervisors(store):
            first = living[0]
            raise StoreError(
                store.display,
                f"has a running supervisor, process {first.pid} on {first.host}; stop it, and whatever would start"
                " another one, and run this again",
            )
        if standing.running:
            raise StoreError(
                store.display,
                f"{standing.running:,} of its jobs are running, or were when their supervisor was killed; start a"
                f" supervisor and stop it once (mpdispatch supervise --store {store.display}), so that they end or"
                " wait again, and run this again",
            )

    def _refuse_filled(self, there: Standing | None) -> None:
        if there is None:
            return
        if there.outgoing is not None:
            raise StoreMoved(self._target.display, there.outgoing.detail)
        if there.incoming is not None and not there.incoming.is_done:
            raise StoreError(
                self._target.display,
                f"holds a part of {there.incoming.source}, of a move that is not finished or was given up; name another"
                " store, or remove this one",
            )
        if not there.is_empty:
            held = ", ".join(f"{count:,} in {name}" for name, count in there.rows.items() if count)
            raise StoreError(
                self._target.display,
                f"is not empty ({held}); name a store that is, or one that is not there yet",
            )

    # -- the steps --------------------------------------------------------------------------------

    def _begun(self, here: Standing, there: Standing | None) -> tuple[Outgoing, Incoming]:
        """Mark both stores, unless something forbids it. An earlier call may have marked the source."""
        self._refuse_in_use(self._target, there)
        self._refuse_filled(there)
        outgoing = here.outgoing
        if here.incoming is not None and not here.incoming.is_done:
            raise StoreMoved(self._source.display, here.incoming.detail)
        if outgoing is None:
            self._refuse_in_use(self._source, here)
            outgoing = self._freeze()
        elif outgoing.is_done or outgoing.to != self._target.display:
            raise StoreMoved(self._source.display, outgoing.detail)
        return outgoing, self._begin(outgoing)

    def _freeze(self) -> Outgoing:
        # Before the source is touched: a target that cannot be made would leave it frozen.
        self._target.check(create=True)
        outgoing = Outgoing(move=secrets.token_hex(8), to=self._target.display)
        idle = {each.id for each in self._source.supervisors()} - {
            each.id for each in living_supervisors(self._source)
        }
        self._from.freeze(outgoing, idle)
        seen = self._to.standing().outgoing
        if seen is not None and seen.move == outgoing.move:  # one store by two names
            self._from.unfreeze()
            raise self._one_store()
        return outgoing

    def _begin(self, outgoing: Outgoing) -> Incoming:
        self._target.check(create=True)
        incoming = Incoming(move=outgoing.move, source=self._source.display)
        self._to.begin(incoming)
        return incoming

    def _copied(self, incoming: Incoming) -> Incoming:
        tables, rows = self._from.tables(), self._from.standing().rows  # counted now that they cannot change
        if list(tables) != list(self._to.tables()):
            raise StoreError(self._target.display, "has other tables; both need one version of mpdispatch")
        self._done, self._total = sum(each.sum.rows for each in incoming.tables.values()), sum(rows.values())
        for table in tables:
            incoming = self._table_copied(table, incoming)
            found = incoming.tables[table.name].sum.rows
            if found != rows[table.name]:
                raise self._differs(table, f"{rows[table.name]:,} rows were counted and {found:,} read")
        return incoming

    def _table_copied(self, table: Table, incoming: Incoming) -> Incoming:
        so_far = incoming.tables.get(table.name, Copied(after=table.before_all, sum=Sum()))
        while not so_far.is_done:
            read = self._from.rows(table, so_far.after, table.page)
            rows = self._to.fitting(table, read)
            so_far = Copied(
                after=table.key_of(read[-1]) if read else so_far.after,
                sum=so_far.sum.plus(rows),
                is_done=len(read) < table.page,
            )
            now = msgspec.structs.replace(incoming, tables={**incoming.tables, table.name: so_far})
            self._to.write(table, rows, incoming, now)
            incoming = now
            self._tell("copying", table, len(rows))
        return incoming

    def _compare(self, incoming: Incoming) -> None:
        """Read all of the target again."""
        self._done = 0
        for table in self._to.tables():
            sum_, after, is_done = Sum(), table.before_all, False
            while not is_done:
                rows = self._to.rows(table, after, table.page)
                sum_, is_done = sum_.plus(rows), len(rows) < table.page
                after = table.key_of(rows[-1]) if rows else after
                self._tell("comparing", table, len(rows))
            wanted = incoming.tables[table.name].sum
            if sum_ != wanted:
                counts = f"{wanted.rows:,} rows with checksum {wanted.checksum} were written, and"
                raise self._differs(table, f"{counts} {sum_.rows:,} with {sum_.checksum} are there")

    def _differs(self, table: Table, what: str) -> StoreError:
        return StoreError(
            self._target.display,
            f"differs from {self._source.display} in its table {table.name}: {what}; nothing is lost, but this copy is"
            " of no use: give it up (--abandon), and name another store",
        )

    def _finished(self, incoming: Incoming) -> Incoming:
        now = msgspec.structs.replace(incoming, is_done=True)
        self._to.finish(self._from.last_ids(), incoming, now)
        return now

    def _leave(self, outgoing: Outgoing, *, keep: bool) -> None:
        if keep:
            self._from.unfreeze()
        else:
            self._from.freeze(msgspec.structs.replace(outgoing, is_done=True))

    def _tell(self, doing: str, table: Table, count: int) -> None:
        self._done += count
        self._on_progress(MoveProgress(doing, table.name, self._done, self._total))


def _is_one(source: Store, target: Store) -> bool:
    """Whether they are one store by the names they are given. Another name of it is found once the source is marked."""
    if not source.is_shared:
        return source is target
    return source.display == target.display or (source.file is not None and source.file == target.file)


def _of_this_move(here: Standing, there: Standing | None) -> Incoming | None:
    """How far the target has come, if it was begun as that of the move which the source names."""
    if here.outgoing is None or there is None or there.incoming is None:
        return None
    return there.incoming if there.incoming.move == here.outgoing.move else None
