"""Frozen values and enums that every floor speaks in: jobs, outcomes, transitions, supervisors, and their JSON.

Values only: no I/O, no clock. Not here: what a value leads to (`policy`), and how it is kept (`store`).
"""

from mpdispatch.model.alike import AlikeJobs
from mpdispatch.model.claim import ClaimFacts, ClaimPlan, ClaimRequest, QueueLimit
from mpdispatch.model.commands import COMMAND_JOB, RESERVED_PREFIX, Command
from mpdispatch.model.dead_letters import DeadLetter
from mpdispatch.model.job import (
    TERMINAL_STATES,
    UNREADABLE,
    Attempt,
    Cause,
    ClaimedJob,
    ErrorInfo,
    Job,
    JobState,
    NewJob,
    Page,
)
from mpdispatch.model.outcome import (
    Aborted,
    Answer,
    Cancelled,
    Completed,
    LeaseLost,
    Outcome,
    Raised,
    Released,
    RetryAsked,
    Run,
    Snoozed,
    TimedOut,
    Transition,
    WorkerDied,
)
from mpdispatch.model.output import KEPT_BYTES, Output, Stream, tail
from mpdispatch.model.status import Finding, Level, SupervisorStatus, WorkerStatus
from mpdispatch.model.supervisors import NewSupervisor, PeerSupervisor

__all__ = [
    "COMMAND_JOB",
    "KEPT_BYTES",
    "RESERVED_PREFIX",
    "TERMINAL_STATES",
    "UNREADABLE",
    "Aborted",
    "AlikeJobs",
    "Answer",
    "Attempt",
    "Cancelled",
    "Cause",
    "ClaimFacts",
    "ClaimPlan",
    "ClaimRequest",
    "ClaimedJob",
    "Command",
    "Completed",
    "DeadLetter",
    "ErrorInfo",
    "Finding",
    "Job",
    "JobState",
    "LeaseLost",
    "Level",
    "NewJob",
    "NewSupervisor",
    "Outcome",
    "Output",
    "Page",
    "PeerSupervisor",
    "QueueLimit",
    "Raised",
    "Released",
    "RetryAsked",
    "Run",
    "Snoozed",
    "Stream",
    "SupervisorStatus",
    "TimedOut",
    "Transition",
    "WorkerDied",
    "WorkerStatus",
    "tail",
]
