"""The keywords of a cron entry and their meanings. Values only; loaded with every engine, so it reads no schedules."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, TypedDict

from mpdispatch.model import CatchUp, Overlap


class CronKeywords(TypedDict, total=False):
    """The options of a cron entry, each with what it means."""

    tz: Annotated[str | None, "the IANA name of the zone whose clocks count (by default that of this machine)"]
    catch_up: Annotated[
        CatchUp,
        "which slots fire that passed while no supervisor ran: skip (none), latest (the last one, the default) or all",
    ]
    catch_up_limit: Annotated[
        int, "the most of them that fire under all, and the most slots that wait under queue (100)"
    ]
    overlap: Annotated[
        Overlap,
        "what a slot does while an earlier job of the entry has not ended: allow (it fires, the default), skip, queue (it"
        " waits) or replace (the job is cancelled)",
    ]
    jitter: Annotated[float | timedelta | str, "a job is due up to this much later than its slot"]
    starts_at: Annotated[
        date | str | None, "there are no earlier slots (without an offset: on the clocks of tz)"
    ]
    ends_at: Annotated[date | str | None, "there are no later slots"]
    late_after: Annotated[
        float | timedelta | str | None,
        "how long the entry may have no success until it is late (by default one period)",
    ]


class CronAndJobKeywords(CronKeywords, total=False):
    """The options of a cron entry and of its jobs."""

    queue: Annotated[str | None, "the queue of its jobs; None: that of the handler"]
    priority: Annotated[int | None, "jobs with a higher number run first, within their queue"]
    max_retries: Annotated[int | None, "how many times to retry after a failure; 0: never"]
    timeout: Annotated[float | timedelta | str | None, "the longest that one attempt may take; None: no limit"]
    expires: Annotated[
        float | timedelta | str | None, "how long after its slot a job may still start; then it is cancelled"
    ]
