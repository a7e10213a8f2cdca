"""What a job is, in the words of a column: its arguments, its error, what there is to say of it. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mpdispatch.cli.progress import progress_text
from mpdispatch.model import COMMAND_JOB, ErrorInfo, Job, JobState
from mpdispatch.model.progress import progress_of, run_s
from mpdispatch.policy.durations import duration_text

_PLAIN_KEY = re.compile(r"[^\W\d]\w*")


def arguments_text(job: Job) -> str:
    """The arguments as `mpdispatch enqueue` takes them; of a program, the line of the shell that runs it."""
    argv = job.payload.get("argv")
    if job.name == COMMAND_JOB and isinstance(argv, list):
        return shlex.join(map(str, argv))
    return pairs_text(job.payload)


def pairs_text(payload: Mapping[str, Any]) -> str:
    """
    >>> pairs_text({"path": "a.pdf", "title": "so far", "dpi": 300})
    "path=a.pdf 'title=so far' dpi:=300"
    >>> pairs_text({"a=b": 1})
    '--args \\'{"a=b": 1}\\''
    """
    if not all(map(_PLAIN_KEY.fullmatch, payload)):
        return f"--args {shlex.quote(_json(payload))}"
    pairs = [
        f"{key}={value}" if isinstance(value, str) else f"{key}:={_json(value)}"
        for key, value in payload.items()
    ]
    return " ".join(map(shlex.quote, pairs))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def brief(error: ErrorInfo | None) -> str:
    """The error with its class without the module."""
    if error is None:
        return ""
    return ": ".join(filter(None, (error.type.rpartition(".")[2], error.message)))


def duration_cell(job: Job, now: datetime) -> str:
    """How long it runs, or ran; empty if that is not known."""
    seconds = run_s(job, now)
    return "" if seconds is None else duration_text(seconds)


def note_of(job: Job, now: datetime) -> str:
    """What there is to say of a job now: why it waits, how far it is, why it failed, what took its place."""
    parts = [job.blocked_reason or "", "" if job.retried_as is None else f"retried as {job.retried_as}"]
    if job.state in (JobState.SCHEDULED, JobState.RETRYING):
        left_s = (job.run_at - now).total_seconds()
        parts.append(f"due in {duration_text(left_s)}" if left_s > 0 else "due")
    if job.state is JobState.RUNNING and (progress := progress_of(job, now)) is not None:
        parts.append(progress_text(progress))
    elif not job.blocked_reason:
        parts.append(brief(job.last_error))
    return "; ".join(filter(None, parts))
