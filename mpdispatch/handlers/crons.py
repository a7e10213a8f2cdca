"""Cron entries as an app or a file declares them: their options, read and checked. Pure.

    options ──(read_settings with CronSettings)──▶ Settings ──(spec_of)──▶ CronSpec, or every fault at once

Not here: what a schedule means (`policy.cron`), how a call's arguments become a payload (`signature`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import get_args

from mpdispatch.clock import SECOND_US
from mpdispatch.config import setting
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.model import CatchUp, CronSpec, NewCron, NewJob, Origin, Overlap
from mpdispatch.policy import settings
from mpdispatch.policy.cron.due import MAX_FIRES, next_slot_us
from mpdispatch.policy.cron.expression import parse
from mpdispatch.policy.moments import moment_us, read_moment
from mpdispatch.policy.names import check_name
from mpdispatch.policy.sources import Settings


def _moment(value: object, is_text: bool) -> datetime:
    return read_moment(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CronSettings:
    """The options of a cron entry, as they are given and with their defaults. `CronSpec` says what they mean.

    `tz`: None: the zone of the host. Durations are seconds.
    """

    schedule: str = field(metadata={"read": settings.text})
    tz: str | None = setting(None, settings.optional(settings.text))
    catch_up: CatchUp = setting("latest", settings.choice(*get_args(CatchUp)))  # noqa: RUF009 - a field
    catch_up_limit: int = setting(100, settings.whole(1, MAX_FIRES))
    overlap: Overlap = setting("allow", settings.choice(*get_args(Overlap)))  # noqa: RUF009 - a field
    jitter: float = setting(0.0, settings.duration())
    starts_at: datetime | None = setting(None, settings.optional(_moment))  # noqa: RUF009 - a field
    ends_at: datetime | None = setting(None, settings.optional(_moment))  # noqa: RUF009 - a field
    late_after: float | None = setting(None, settings.optional(settings.duration(low=1.0)))


def spec_of(found: Settings, *, name: object, job: NewJob, host_tz: str) -> CronSpec:
    """The spec of an entry with these settings, which `read_settings` has read for CronSettings.

    `host_tz` is the zone if none is given. Raises ConfigError: every fault, also those of the settings.
    """
    values, tz = found.values, found.values.get("tz") or host_tz
    # A setting with a fault has no value.
    faults = [*found.faults, *_faults_of_schedule(found, tz), *_faults_of_name(found, name)]
    if not faults:
        faults += _faults_of_window(found, tz)
    if faults:
        raise ConfigError(faults)
    starts_at, ends_at, late_after = (values[each] for each in ("starts_at", "ends_at", "late_after"))
    return CronSpec(
        name=str(name),
        schedule=values["schedule"],
        tz=tz,
        job=job,
        catch_up=values["catch_up"],
        catch_up_limit=values["catch_up_limit"],
        overlap=values["overlap"],
        jitter_us=round(values["jitter"] * SECOND_US),
        starts_at_us=None if starts_at is None else moment_us(starts_at, tz),
        ends_at_us=None if ends_at is None else moment_us(ends_at, tz),
        late_after_us=None if late_after is None else round(late_after * SECOND_US),
    )


def _faults_of_schedule(found: Settings, tz: str) -> Iterator[Fault]:
    # Each with a right other one, so that faults of both are found.
    for schedule, zone in (("@daily", tz), (found.values.get("schedule", "@daily"), "UTC")):
        try:
            parse(schedule, zone)
        except UsageError as error:
            which, _, text = str(error).partition(": ")
            yield Fault(found.keys.get(which, which), text)


def _faults_of_name(found: Settings, name: object) -> Iterator[Fault]:
    try:
        check_name("name", name)
    except UsageError as error:
        yield Fault(found.keys.get("name", ""), str(error))


def _faults_of_window(found: Settings, tz: str) -> Iterator[Fault]:
    times = dict[str, int]()
    for each in ("starts_at", "ends_at"):
        if (value := found.values[each]) is not None:
            try:
                times[each] = moment_us(value, tz)
            except UsageError as error:
                yield Fault(found.keys[each], str(error))
    if len(times) == 2 and times["ends_at"] < times["starts_at"]:
        yield Fault(found.keys["ends_at"], "must not be earlier than starts_at")


def new_cron(spec: CronSpec, origin: Origin, app: str, now_us: int) -> NewCron:
    """The entry as handed to a store. Its slots begin after now."""
    return NewCron(
        spec=spec,
        origin=origin,
        app=app,
        decided_until_us=now_us,
        next_slot_us=first_slot_us(spec, now_us),
    )


def first_slot_us(spec: CronSpec, now_us: int) -> int | None:
    """The first slot of an entry that is enabled now."""
    return next_slot_us(spec, parse(spec.schedule, spec.tz, anchor_us=now_us), now_us)
