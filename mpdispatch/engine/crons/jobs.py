"""The jobs of entries: made by an engine, or as given by a client that knows no handlers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mpdispatch.config import Config
from mpdispatch.engine.definition import JobHandle
from mpdispatch.engine.new_job import new_job
from mpdispatch.engine.options import EnqueueOptions
from mpdispatch.handlers.names import check_job_name
from mpdispatch.handlers.safejson import payload_as_given
from mpdispatch.model import NewJob


class NewCronJob(Protocol):
    """Makes the job of an entry, checked. Raises UnknownJobError, PayloadError, UsageError."""

    def __call__(
        self, job: str | JobHandle[..., Any], args: Mapping[str, Any], options: EnqueueOptions
    ) -> NewJob: ...


def job_as_given(job: str | JobHandle[..., Any], args: Mapping[str, Any], options: EnqueueOptions) -> NewJob:
    """The job of an entry for a client that knows no handlers: name and arguments are not checked against any."""
    name = check_job_name(job.name if isinstance(job, JobHandle) else job)
    payload = payload_as_given(name, args, Config().max_payload_bytes)
    return new_job(NewJob(name=name, payload=b""), options, payload)
