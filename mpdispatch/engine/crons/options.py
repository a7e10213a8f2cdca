"""The checks of the options of a cron entry. No I/O but finding the host's zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from mpdispatch.config import read_settings
from mpdispatch.engine.options import EnqueueOptions
from mpdispatch.errors import ConfigError, UsageError
from mpdispatch.handlers.crons import CronSettings, spec_of
from mpdispatch.host.timezone import host_zone
from mpdispatch.model import CronSpec, NewJob
from mpdispatch.policy.sources import arguments

OF_THE_JOB = ("queue", "priority", "max_retries", "timeout", "expires")
"""The options of an enqueue that a cron entry takes for its jobs."""


def split_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the entry, and those of its jobs.

    >>> split_options({"tz": "UTC", "queue": "bulk"})
    ({'tz': 'UTC'}, {'queue': 'bulk'})
    """
    of_jobs = {key: value for key, value in given.items() if key in OF_THE_JOB}
    return {key: value for key, value in given.items() if key not in OF_THE_JOB}, of_jobs


def job_options(given: Mapping[str, Any]) -> EnqueueOptions:
    """The options of an entry's jobs. Raises UsageError."""
    expires = given.get("expires")
    if isinstance(expires, date):
        raise UsageError(
            "expires: a cron entry takes how long after a job is due, such as 60 or '1h', and no moment"
        )
    return EnqueueOptions.read(given)


def checked_spec(name: object, schedule: object, job: NewJob, given: Mapping[str, Any]) -> CronSpec:
    """The spec of an entry. Raises UsageError: names every fault of it."""
    found = read_settings([arguments({"schedule": schedule, **given})], CronSettings)
    try:
        return spec_of(found, name=name, job=job, host_tz=host_zone())
    except ConfigError as error:
        raise UsageError(str(error)) from None
