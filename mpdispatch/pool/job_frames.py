"""Frames of jobs for a worker: many jobs per frame, with any arguments. Both sides.

    [[id, starts, …, size of its payload], …] newline payload payload …

A payload is only bytes here; it is decoded when its job runs. A payload that is no JSON (a row edited by hand, a damaged
file) would otherwise break the frame, and every worker that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import astuple, force_setattr

from mpdispatch.model import ClaimedJob
from mpdispatch.pool.frames import FrameError, encode

JobToSend: TypeAlias = tuple[ClaimedJob, str | None]
"""A job, and the reference of its handler if the worker may not have that."""


# Positional, because it is the most frequent message; a ClaimedJob, so that no other value has to be made.
class RunJob(ClaimedJob, frozen=True, array_like=True, gc=False):
    """A job to run. `reference` is set if the worker may not have the handler, and then imports it."""

    reference: str | None = None
    size: int = 0


class UnreadableJob(msgspec.Struct, frozen=True, gc=False):
    """A job whose row has an impossible value. `why` names the column."""

    id: int
    starts: int
    why: str
    size: int
    name: str = ""
    payload: bytes = b""


ReceivedJob: TypeAlias = RunJob | UnreadableJob

_decode = msgspec.json.Decoder(list[RunJob]).decode
_id = RunJob.__struct_fields__.index("id")
_starts = RunJob.__struct_fields__.index("starts")
_size = RunJob.__struct_fields__.index("size")


def encode_jobs(jobs: Sequence[JobToSend]) -> bytes:
    """The frame of these jobs, of which there is at least one."""
    # Tuples in the order of RunJob's fields, which take a third of the time of RunJobs. A payload follows the heads.
    heads = [(*astuple(job)[:-1], "", reference, len(job.payload)) for job, reference in jobs]
    return b"".join([encode(heads), b"\n", *[job.payload for job, _ in jobs]])


def is_jobs(frame: bytes) -> bool:
    """Whether a frame to a worker is one of jobs. Decodes nothing."""
    return frame.startswith(b"[[")


def decode_jobs(frame: bytes) -> list[ReceivedJob]:
    """The jobs of a frame, in order. An unreadable job does not affect the others.

    Raises FrameError: it is no frame of jobs.
    """
    end = frame.find(b"\n")  # our JSON has none
    heads = frame[: max(end, 0)]
    jobs: list[ReceivedJob]
    try:
        jobs = _decode(heads)  # type: ignore[assignment]  # nearly always, all are readable
    except msgspec.DecodeError:
        jobs = _one_by_one(heads)
    at = end + 1
    for job in jobs:
        size = job.size
        force_setattr(job, "payload", frame[at : at + size])
        at += size
    if at != len(frame):
        raise FrameError(f"a frame of jobs has {len(frame)} bytes, and should have {at}")
    return jobs


def _one_by_one(heads: bytes) -> list[ReceivedJob]:
    try:
        rows: list[list[Any]] = msgspec.json.decode(heads, type=list[list[Any]])
        return [_job_of(row) for row in rows]
    except (msgspec.DecodeError, IndexError) as error:
        raise FrameError(f"a frame of jobs that is none: {error}") from error


def _job_of(row: list[Any]) -> ReceivedJob:
    """Raises msgspec.ValidationError: not even the job's id can be read."""
    try:
        return msgspec.convert(row, RunJob)
    except msgspec.ValidationError as error:
        why = str(error)
    for number, name in enumerate(RunJob.__struct_fields__):
        why = why.replace(f"`$[{number}]`", f"`{name}`")
    job_id, starts, size = (msgspec.convert(row[place], int) for place in (_id, _starts, _size))
    return UnreadableJob(job_id, starts, why, size)
