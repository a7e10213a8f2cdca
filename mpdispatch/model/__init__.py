"""Frozen values and enums that every floor speaks in. Values only: no I/O, no clock."""

from mpdispatch.model.claim import ClaimFacts, ClaimPlan, Planner
from mpdispatch.model.commands import COMMAND_JOB, RESERVED_PREFIX, Command
from mpdispatch.model.dead_letters import DeadLetter
from mpdispatch.model.job import (
    TERMINAL_STATES,
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
from mpdispatch.model.supervisors import PeerSupervisor, Registration

__all__ = [
    "COMMAND_JOB",
    "KEPT_BYTES",
    "RESERVED_PREFIX",
    "TERMINAL_STATES",
    "Aborted",
    "Answer",
    "Attempt",
    "Cancelled",
    "Cause",
    "ClaimFacts",
    "ClaimPlan",
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
    "Outcome",
    "Output",
    "Page",
    "PeerSupervisor",
    "Planner",
    "Raised",
    "Registration",
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
