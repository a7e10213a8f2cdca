"""Frozen values and enums that every floor speaks in. Values only: no I/O, no clock."""

from mpdispatch.model.claim import ClaimFacts, ClaimPlan, Planner
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
from mpdispatch.model.supervisors import PeerSupervisor, Registration

__all__ = [
    "TERMINAL_STATES",
    "Aborted",
    "Answer",
    "Attempt",
    "Cancelled",
    "Cause",
    "ClaimFacts",
    "ClaimPlan",
    "ClaimedJob",
    "Completed",
    "DeadLetter",
    "ErrorInfo",
    "Job",
    "JobState",
    "LeaseLost",
    "NewJob",
    "Outcome",
    "Page",
    "PeerSupervisor",
    "Planner",
    "Raised",
    "Registration",
    "Released",
    "RetryAsked",
    "Run",
    "Snoozed",
    "TimedOut",
    "Transition",
    "WorkerDied",
]
