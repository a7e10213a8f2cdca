"""Which entries are late: they had no success within the time in which one was due. Pure."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US
from mpdispatch.model import CronEntry, CronSpec, JobState
from mpdispatch.policy.cron.expression import schedule_of
from mpdispatch.policy.cron.schedule import Event, Once, Schedule

ONCE_LATE_AFTER_US = 3600 * SECOND_US
"""An `@once` entry is late if it had no success for this long after its slot."""
LEAST_US = 5 * SECOND_US
"""A slot has at least this long to succeed: a supervisor that starts again makes no every-second entry late."""


def last_success_us(entry: CronEntry) -> int | None:
    """When a job of an entry last completed, those included that no decision has seen yet."""
    ends = [each.completed_at_us for each in entry.open if each.state is JobState.COMPLETED]
    return max((each for each in (entry.last_success_us, *ends) if each is not None), default=None)


def late_at_us(entry: CronEntry) -> int | None:
    """From when on an entry is late if it has no success before; None: never.

    With `late_after_us`: that long after its last success, after it was enabled or after `starts_at_us`, whichever is the
    latest. Without: when the slot after the first one since then comes, and with the most that the jitter may take.
    An `@once` counts from its slot; `@startup` and `@reboot` are late by `late_after_us` only.
    """
    spec = entry.spec
    if not entry.may_fire:
        return None
    since_us = max(entry.enabled_at_us, last_success_us(entry) or 0, (spec.starts_at_us or 0) - 1)
    at_us = _deadline_us(spec, schedule_of(entry), since_us)
    return None if at_us is None or _is_over(spec, at_us) else at_us


def late_since_us(entry: CronEntry, now_us: int) -> int | None:
    """Since when an entry is late; None: it is not. Disabled, orphaned and ended entries are not late."""
    at_us = late_at_us(entry)
    return None if at_us is None or at_us > now_us or _is_over(entry.spec, now_us) else at_us


def _is_over(spec: CronSpec, at_us: int) -> bool:
    return spec.ends_at_us is not None and at_us > spec.ends_at_us


def _deadline_us(spec: CronSpec, schedule: Schedule, since_us: int) -> int | None:
    if isinstance(schedule, Once):
        slot_us = schedule.next(since_us)
        after_us = ONCE_LATE_AFTER_US if spec.late_after_us is None else spec.late_after_us
        return None if slot_us is None else slot_us + after_us
    if spec.late_after_us is not None:
        return since_us + spec.late_after_us
    return None if isinstance(schedule, Event) else _after_one_period_us(schedule, since_us, spec.jitter_us)


def _after_one_period_us(schedule: Schedule, since_us: int, jitter_us: int) -> int | None:
    slot_us = schedule.next(since_us)
    after_us = None if slot_us is None else schedule.next(slot_us)
    if slot_us is None or after_us is None:
        return None
    return max(after_us + jitter_us, slot_us + LEAST_US)
