"""The steps of the machine that concern cron entries: a part of `machine.Machine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import strategies as st

from mpdispatch.clock import SECOND_US
from mpdispatch.model import CronDecision, CronEntry, CronSpec, Firing, NewCron, SkippedSlots
from mpdispatch.store.filters import PruneFilter

from . import draws
from .answers import Refusal, answer_of, compare
from .steps import places, sides, step

if TYPE_CHECKING:
    from .machine import Supervisor
    from .model import Model

faces = st.sampled_from([None, 0, 1])
"""Who calls: a client, or one of the supervisors."""


class CronSteps:
    supervisors: list[Supervisor]
    model: Model
    both: Callable[..., Any]
    saw: Callable[..., None]
    store: Any

    def begin_crons(self) -> None:
        self.looked: list[tuple[CronEntry, CronEntry]] = []
        """Entries as they were when somebody looked, as the store gave them and as the model did; the newest first."""
        self.revisions: dict[int, CronEntry] = {}
        """The last entry that the store gave, by its id."""
        self.limits = cycle([1, 2, 100])

    def crons(self, call: str, *args: Any, by: int | None = None, **options: Any) -> Any:
        return self.both(f"crons.{call}", *args, by=None if by is None else self.supervisors[by], **options)

    def cron_at(self, at: int, *, is_fresh: bool) -> tuple[CronEntry, CronEntry] | None:
        if is_fresh:
            self.look_at_crons()
        return self.looked[at % len(self.looked)] if self.looked else None

    # ---------------------------------------------------------------- what people and apps do

    @step(
        2, specs=st.lists(draws.cron_specs, min_size=1, max_size=2), until_us=draws.slots, next_us=draws.moments
    )
    def add_crons(self, specs: list[CronSpec], until_us: int, next_us: int | None) -> None:
        new = [
            NewCron(spec=spec, origin="user", decided_until_us=until_us, next_slot_us=next_us) for spec in specs
        ]
        self.crons("add", *new)

    @step(
        4,
        origin=st.sampled_from(["code", "code", "code", "file", "user"]),
        app=st.sampled_from(draws.APPS),
        specs=draws.declared_crons,
        until_us=draws.slots,
        is_changed=st.booleans(),
        by=faces,
    )
    def sync_crons(
        self,
        origin: str,
        app: str,
        specs: list[CronSpec],
        until_us: int,
        is_changed: bool,
        by: int | None,
    ) -> None:
        """Declare these; or what is there already, but for those."""
        if not is_changed:
            names = {spec.name for spec in specs[:1]}
            specs = [entry.spec for entry in self.model.crons.entries() if entry.spec.name not in names]
        declared = [
            NewCron(spec=spec, origin=origin, app=app, decided_until_us=until_us, next_slot_us=until_us + 1)  # type: ignore[arg-type]
            for spec in specs
        ]
        self.crons("sync", origin, app, declared, by=by)

    @step(2, name=draws.cron_names, is_enabled=st.booleans(), until_us=draws.slots)
    def enable_cron(self, name: str, is_enabled: bool, until_us: int) -> None:
        self.crons("set_enabled", name, is_enabled, decided_until_us=until_us, next_slot_us=until_us + 1)

    @step(1, name=draws.cron_names)
    def delete_cron(self, name: str) -> None:
        self.crons("delete", name)

    @step(2, name=draws.cron_names, firings=draws.cron_firings)
    def fire_cron(self, name: str, firings: list[Firing]) -> None:
        self.crons("fire", name, firings)

    @step(
        4,
        firing=st.builds(Firing, draws.slots, st.just(draws.START_US + 100 * SECOND_US)),
        at=places,
        meanwhile=st.sampled_from(["nothing", "nothing", "closed", "disabled", "an orphan", "deleted"]),
    )
    def prune_a_job_of_a_cron(self, firing: Firing, at: int, meanwhile: str) -> None:
        """A job that has ended stays until a decision has seen that, if one can."""
        entries = self.model.crons.entries()
        if not entries:
            return
        entry = _nth(entries, at)
        for job in self.crons("fire", entry.spec.name, [firing]):
            self.both("cancel", job.id)
        match meanwhile:
            case "closed":
                self.look_at_crons()
                closes = [(each.slot_us) for each in self.model.crons.entry(entry.spec.name).open]
                pair = next(each for each in self.looked if each[0].id == entry.id)
                self.decide(_nothing_but(pair[0], closes=closes), pair, None)
            case "disabled":
                self.enable_cron(entry.spec.name, False, draws.START_US)
            case "an orphan":
                self.crons("sync", entry.origin, entry.app, [])
            case "deleted":
                self.delete_cron(entry.spec.name)
        self.both("prune", PruneFilter(ended_before_us=self.clock.advance(1).wall_us))

    @step(2, at=places, call=st.sampled_from(["retry", "replay", "cancel"]))
    def change_a_job_of_a_cron(self, at: int, call: str) -> None:
        ids = self.model.crons.job_ids()
        if ids:
            self.both(call, ids[at % len(ids)])

    # ---------------------------------------------------------------- what supervisors do

    @step(1)
    def look_at_crons(self) -> None:
        pairs = list(zip(self.store.crons.entries(), self.model.crons.entries(), strict=True))
        self.looked = [*pairs, *self.looked][:6]

    @step(
        12,
        at=places,
        is_fresh=st.sampled_from([True, True, False]),
        firings=draws.cron_firings,
        skips=draws.cron_skips,
        cancels=st.lists(places, max_size=2),
        closes=st.lists(places, max_size=3),
        until_us=draws.slots,
        learned=st.tuples(st.sampled_from([None, "b-1", "b-2"]), draws.moments, draws.moments),
        is_twice=st.sampled_from([False, False, True]),
        side=sides,
        by=faces,
    )
    def decide_about_a_cron(
        self,
        at: int,
        is_fresh: bool,
        firings: list[Firing],
        skips: list[SkippedSlots],
        cancels: list[int],
        closes: list[int],
        until_us: int,
        learned: tuple[str | None, int | None, int | None],
        is_twice: bool,
        side: int,
        by: int | None,
    ) -> None:
        """For an entry as it is, or as it was; another supervisor may decide the same at once."""
        pair = self.cron_at(at, is_fresh=is_fresh)
        if pair is None:
            return
        entry = pair[0]
        boot_id, last_success_us, late_since_us = learned
        decision = CronDecision(
            cron_id=entry.id,
            revision=0,
            fires=firings,
            skips=skips,
            cancels=[_nth(entry.open, each).job_id for each in cancels if entry.open],
            closes=[_nth(entry.open, each).slot_us for each in closes if entry.open],
            decided_until_us=until_us,
            next_slot_us=until_us + 1,
            boot_id=boot_id,
            last_success_us=last_success_us,
            late_since_us=late_since_us,
        )
        self.decide(decision, pair, by)
        if is_twice:
            self.decide(decision, pair, side)

    def decide(self, decision: CronDecision, pair: tuple[CronEntry, CronEntry], by: int | None) -> None:
        ours, theirs = (msgspec.structs.replace(decision, revision=each.revision) for each in pair)
        face = self.store if by is None else self.supervisors[by].store
        found = answer_of(face.crons.decide, ours)
        self.settle_ids(is_done=not isinstance(found, Refusal))
        compare("decide", found, answer_of(self.model.crons.decide, theirs))
        if found and not isinstance(found, Refusal):
            self.saw(found)

    # ---------------------------------------------------------------- all there is to see

    def all_crons_are_the_same(self) -> None:
        entries: list[CronEntry] = self.crons("entries")
        self.crons("entries", by=0)
        for entry in entries:
            before, self.revisions[entry.id] = self.revisions.get(entry.id), entry
            if before is not None and entry.revision <= before.revision:
                assert entry.revision == before.revision, "it grows"
                # The states of its jobs are no part of it.
                assert _without_states(entry) == _without_states(before), (
                    "it has changed and its revision has not"
                )
        limit = next(self.limits)
        for name in draws.CRON_NAMES:
            self.crons("entry", name)
            self.crons("history", name, limit)
            self.crons("history", name, 0)


def _nothing_but(entry: CronEntry, **changes: Any) -> CronDecision:
    values = {"decided_until_us": entry.decided_until_us, "next_slot_us": entry.next_slot_us, **changes}
    return CronDecision(cron_id=entry.id, revision=0, **values)


def _without_states(entry: CronEntry) -> CronEntry:
    firings = tuple(
        msgspec.structs.replace(each, state="pending", completed_at_us=None)  # type: ignore[arg-type]
        for each in entry.open
    )
    return msgspec.structs.replace(entry, open=firings)


def _nth(items: Sequence[Any], at: int) -> Any:
    """Counted round."""
    return items[at % len(items)]
