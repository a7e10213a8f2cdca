"""`engine.crons`: the cron entries of a store. Needs a store; handlers only to check names and arguments.

Loaded when it is first used: reading schedules needs much that enqueueing does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from mpdispatch.clock import SystemClock
from mpdispatch.engine.crons.jobs import NewCronJob
from mpdispatch.engine.crons.keywords import CronAndJobKeywords, CronKeywords
from mpdispatch.engine.crons.options import checked_spec, job_options, split_options
from mpdispatch.engine.crons.slots import Moment, is_event, slots_between
from mpdispatch.engine.crons.values import Cron, PastSlot, PreviewedSlot, cron_of, history_of
from mpdispatch.engine.definition import JobHandle
from mpdispatch.engine.options import checked_limit, documented
from mpdispatch.errors import CronNotFoundError, StoreMissing, UsageError
from mpdispatch.execution.process_context import refuse_while_importing
from mpdispatch.handlers.crons import first_slot_us, new_cron
from mpdispatch.model import CronEntry, CronSpec, Firing, Job, NewCron, NewJob
from mpdispatch.model.json import moment_of
from mpdispatch.policy.cron.preview import preview
from mpdispatch.policy.moments import moment_of_field
from mpdispatch.policy.names import check_name, nearest, shown
from mpdispatch.store.contract import Store

if TYPE_CHECKING:
    from mpdispatch.engine.engine import Engine
    from mpdispatch.engine.explain import Reason

_MOST_NAMED = 20
_CHUNK = 500


class Crons:
    """The cron entries of a store, each by its name. Safe from any thread."""

    def __init__(
        self, store: Store, *, new_job: NewCronJob, on_fire: Callable[[str, Sequence[Job]], Sequence[Job]]
    ) -> None:
        """`on_fire` is told of the entry and its new jobs, and gives them."""
        self._store, self._new_job, self._on_fire = store, new_job, on_fire

    @documented(CronAndJobKeywords)
    def add(
        self,
        name: str,
        schedule: str,
        *,
        job: str | JobHandle[..., Any],
        args: Mapping[str, Any] | None = None,
        **options: Unpack[CronAndJobKeywords],
    ) -> Cron:
        """Keep a new entry: from now on its slots fire, while a supervisor runs.

        `schedule`: five fields, or six with the second first (`0 3 * * *`), `@hourly … @yearly`, `@every 90s`,
        `@once 2026-12-01T03:00`, `@startup` or `@reboot`. `job`: a handler or its name; `args`: its arguments.

        Raises:
            UsageError: names every option that is not allowed, and the schedule if it never has a slot.
            CronExistsError: there is an entry of this name.
            UnknownJobError, PayloadError: there is no such handler, or the arguments do not fit it.
        """
        of_entry, of_jobs = split_options(options)
        if not isinstance(job, str | JobHandle):
            raise UsageError(f"job: must be a handler or the name of one, not {shown(job)}")
        if args is not None and not isinstance(args, Mapping):
            raise UsageError(f"args: must be a mapping of arguments, not {shown(args)}")
        new = self._new_job(job, args or {}, job_options(of_jobs))
        return self.add_job(name, schedule, new, of_entry)

    def add_job(self, name: str, schedule: str, job: NewJob, options: Mapping[str, Any]) -> Cron:
        """As `add`, for a job as it is; `options` are those of the entry alone. For the doors."""
        (made,) = self.add_all([checked_spec(name, schedule, job, options)])
        return made

    def add_all(self, specs: Sequence[CronSpec]) -> Sequence[Cron]:
        """Keep all of these, or none. For the doors. Raises CronExistsError, UsageError: of the first bad one."""
        refuse_while_importing("crons.add")
        added = self._store.crons.add(*map(_new, specs))
        return [cron_of(each, each.decided_until_us) for each in added]

    def list(self) -> Sequence[Cron]:
        """All entries, by name."""
        now_us = _now_us()
        return [cron_of(each, now_us) for each in self._store.crons.entries()]

    def get(self, name: str) -> Cron:
        """Raises CronNotFoundError."""
        return cron_of(self._entry(name), _now_us())

    def enable(self, name: str) -> Cron:
        """Let a disabled entry fire again. It does not catch up what passed meanwhile. Raises CronNotFoundError."""
        refuse_while_importing("crons.enable")
        now_us = _now_us()
        next_us = first_slot_us(self._entry(name).spec, now_us)
        kept = self._store.crons.set_enabled(name, True, decided_until_us=now_us, next_slot_us=next_us)
        return cron_of(kept, now_us)

    def disable(self, name: str) -> Cron:
        """Let it fire no more; its jobs go on. Raises CronNotFoundError."""
        refuse_while_importing("crons.disable")
        now_us = _now_us()
        self._entry(name)  # whose error names those that are there
        kept = self._store.crons.set_enabled(name, False, decided_until_us=now_us, next_slot_us=None)
        return cron_of(kept, now_us)

    def delete(self, name: str) -> None:
        """Delete it with its history; its jobs stay. One that code or a file declares comes back when it is read again.

        Raises CronNotFoundError.
        """
        refuse_while_importing("crons.delete")
        self._entry(name)
        self._store.crons.delete(name)

    def trigger(self, name: str) -> Job:
        """Fire it now, whatever its schedule says, disabled or not. Gives the new job.

        Raises CronNotFoundError; UsageError: its code is gone.
        """
        refuse_while_importing("crons.trigger")
        entry, now_us = self._entry(name), _now_us()
        if entry.is_orphan:
            raise UsageError(f"cron entry {name!r} is an orphan: {entry.app} does not declare it any more")
        made = self._fire(name, [Firing(now_us, now_us)])
        return made[0] if made else self.trigger(name)  # in this very microsecond it has fired already

    def preview(
        self, name: str, count: int = 5, *, tz: str | None = None, since: Moment | None = None
    ) -> Sequence[PreviewedSlot]:
        """The next `count` slots of an entry, or of an expression; what a change of clocks does to them is noted.

        `since`: begin there instead of now. For an entry, if that is earlier than now, the slots in between come first,
        as a supervisor would treat them that starts now after a downtime since then: one item for each that it catches
        up, and one for all in a row that it skips. `tz`: for an expression (default: that of this machine).

        Raises UsageError: `name` is neither that of an entry nor a schedule.
        """
        of, now_us = self.to_preview(name, tz), _now_us()
        spec = of.spec if isinstance(of, CronEntry) else of
        since_us = now_us if since is None else moment_of_field("since", since, spec.tz)
        if of is spec:
            now_us = min(now_us, since_us)  # an expression says nothing of a downtime
        found = preview(of, count=checked_limit(count, "count"), since_us=since_us, now_us=now_us)
        return [PreviewedSlot(moment_of(each.slot_us), moment_of(each.run_at_us), each.note) for each in found]

    def to_preview(self, name: str, tz: str | None = None) -> CronEntry | CronSpec:
        """The entry of this name, or the spec of this expression. Raises UsageError, CronNotFoundError."""
        try:
            entry = self._entry(name)
        except (CronNotFoundError, StoreMissing) as unknown:
            try:
                return checked_spec("preview", name, NewJob(name="preview", payload=b"{}"), {"tz": tz})
            except UsageError as error:
                is_name = " " not in name and not name.startswith("@") and not str(error).startswith("tz:")
                raise (unknown if is_name else error) from None
        if tz is not None and tz != entry.spec.tz:
            raise UsageError(f"tz: entry {name!r} has its own zone, {entry.spec.tz}")
        return entry

    def backfill(self, name: str, start: Moment, end: Moment) -> Sequence[Job]:
        """Fire the slots of an entry from `start` up to, but without, `end`; those that have fired do not fire again.

        Both are datetimes, dates, or texts such as `2026-11-01`; without a zone they are read on the entry's clocks.
        Slots that have not come yet are left to the schedule. Gives the new jobs. In transactions of 500 jobs: after an
        error, do it again.

        Raises:
            CronNotFoundError: there is no such entry.
            UsageError: the range is backwards or holds more than 100,000 slots, or the entry has no slots by the clock.
        """
        refuse_while_importing("crons.backfill")
        entry, now_us = self._entry(name), _now_us()
        slots = slots_between(entry, start, end, now_us)
        made = list[Job]()
        for first in range(0, len(slots), _CHUNK):
            made += self._fire(name, [Firing(slot_us, now_us) for slot_us in slots[first : first + _CHUNK]])
        return made

    def explain(self, name: str) -> tuple[Cron, Sequence[Reason]]:
        """The entry, and why it did not fire, or does not; never empty. Raises CronNotFoundError."""
        from mpdispatch.engine.explain_cron import explain_cron

        entry, now = self._entry(name), SystemClock().now()
        return cron_of(entry, now.wall_us), explain_cron(self._store, entry, now=now)

    def history(self, name: str, limit: int = 50) -> Sequence[PastSlot]:
        """What became of its last slots, the newest first: which fired, and which were skipped and why.

        Raises CronNotFoundError.
        """
        most = checked_limit(limit)
        self._entry(name)
        return history_of(self._store.crons.history(name, most), most)

    def _fire(self, name: str, slots: Sequence[Firing]) -> Sequence[Job]:
        made = self._store.crons.fire(name, slots)
        return self._on_fire(name, made) if made else made

    def _entry(self, name: str) -> CronEntry:
        try:
            return self._store.crons.entry(check_name("name", name))
        except CronNotFoundError:
            known = [each.spec.name for each in self._store.crons.entries()]
            alike = nearest(name, known)
            hint = f"; did you mean {alike!r}?" if alike else f"; there are: {_some(known)}"
            raise CronNotFoundError(name, hint) from None


def _some(names: Sequence[str]) -> str:
    """The names for a message; only the first ones if there are many, as after the import of a long crontab."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "") or "none"


class EngineCrons(Crons):
    """The cron entries of an engine's store. The engine declares its own here, too."""

    def __init__(self, engine: Engine, on_fire: Callable[[str, Sequence[Job]], Sequence[Job]]) -> None:
        super().__init__(engine.store, new_job=engine.new_job, on_fire=on_fire)
        self._engine = engine

    @documented(CronKeywords)
    def register(
        self,
        handler: Callable[..., Any],
        schedule: str,
        *,
        name: str | None = None,
        args: Mapping[str, Any] | None = None,
        **options: Unpack[CronKeywords],
    ) -> JobHandle[..., Any]:
        """As `@engine.cron`, for a stand-alone `@job` or a plain function, which the engine takes in, too.

        The entry is made when a supervisor of this engine starts, and is an orphan once the code has it no more.

        Raises RegistrationError.
        """
        return self._engine.cron(schedule, name=name, args=args, **options)(handler)


def _new(spec: CronSpec) -> NewCron:
    """The entry of somebody who adds it now. Raises UsageError: it has no slots."""
    new = new_cron(spec, "user", "", _now_us())
    if new.next_slot_us is None and not is_event(spec):
        raise UsageError(f"schedule: {shown(spec.schedule)} has no slot from now on")
    return new


def _now_us() -> int:
    return SystemClock().now().wall_us
