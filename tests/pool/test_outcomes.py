"""Every answer times every stop_reason, and every end times every stop_reason: one outcome each."""

from __future__ import annotations

import pytest

from mpdispatch.model import (
    Aborted,
    Answer,
    Cancelled,
    Completed,
    ErrorInfo,
    Outcome,
    Raised,
    RetryAsked,
    Run,
    Snoozed,
    TimedOut,
    WorkerDied,
)
from mpdispatch.pool.assigned import StopReason
from mpdispatch.pool.exec import ExitStatus
from mpdispatch.pool.outcomes import from_exit, from_reply

RUN = Run(started_us=5, duration_us=7, worker_pid=11)
ERROR = ErrorInfo(type="ValueError", message="as told", traceback="Traceback …")

ANSWERS: dict[str, Answer] = {
    "completed": Completed(run=RUN, result=b"1"),
    "raised": Raised(run=RUN, error=ERROR),
    "retry": RetryAsked(run=RUN, error=ERROR, delay_us=1),
    "snooze": Snoozed(run=RUN, delay_us=1),
    "cancel": Cancelled(run=RUN, error=ERROR),
    "cancel unstarted": Cancelled(run=None, error=ERROR),
}

# None: the answer itself.
OF_ANSWER: list[tuple[str, StopReason | None, type[Outcome] | None]] = [
    *((name, None, None) for name in ANSWERS),
    *((name, StopReason.TIMEOUT, TimedOut) for name in ANSWERS),
    *((name, StopReason.CANCEL, None if name == "completed" else Cancelled) for name in ANSWERS),
    *((name, StopReason.ABORT, None if name == "completed" else Aborted) for name in ANSWERS),
]


@pytest.mark.parametrize(("name", "stop_reason", "expected"), OF_ANSWER)
def test_an_answer_and_what_we_had_asked_give(
    name: str, stop_reason: StopReason | None, expected: type[Outcome] | None
) -> None:
    answer = ANSWERS[name]
    outcome = from_reply(answer, stop_reason, 2_500_000)
    if expected is None:
        assert outcome is answer
        return
    assert type(outcome) is expected
    assert outcome.run == (answer.run or Run(started_us=0))  # type: ignore[union-attr]


def test_a_timeouts_error_names_the_timeout_and_shows_where_it_struck() -> None:
    outcome = from_reply(ANSWERS["raised"], StopReason.TIMEOUT, 2_500_000)
    assert isinstance(outcome, TimedOut)
    assert outcome.error == ErrorInfo(
        type="JobTimeout", message="ran longer than its timeout of 2.5 s", traceback="Traceback …"
    )
    assert outcome.signal is None


ENDINGS = [
    ExitStatus(0, None),
    ExitStatus(3, None),
    ExitStatus(70, None),
    ExitStatus(None, "SIGKILL"),
    ExitStatus(None, "SIGSEGV"),
    ExitStatus(None, None),
]
OF_DOOM = {
    None: WorkerDied,
    StopReason.TIMEOUT: TimedOut,
    StopReason.CANCEL: Cancelled,
    StopReason.ABORT: Aborted,
}


@pytest.mark.parametrize("status", ENDINGS, ids=str)
@pytest.mark.parametrize("stop_reason", OF_DOOM)
@pytest.mark.parametrize("broken", [None, "it sent junk"])
def test_an_end_and_what_we_had_asked_give(
    status: ExitStatus, stop_reason: StopReason | None, broken: str | None
) -> None:
    outcome = from_exit(status, RUN, stop_reason, 2_500_000, broken)
    assert type(outcome) is OF_DOOM[stop_reason]
    assert outcome.run == RUN
    if isinstance(outcome, WorkerDied):
        assert (outcome.exit_status, outcome.signal) == status
    if isinstance(outcome, TimedOut):
        assert outcome.signal == status.signal


@pytest.mark.parametrize(
    ("status", "broken", "type_name", "message"),
    [
        (
            ExitStatus(None, "SIGKILL"),
            None,
            "WorkerDied",
            "worker 11 was killed by SIGKILL (possibly out of memory) while the job was running",
        ),
        (
            ExitStatus(None, "SIGSEGV"),
            None,
            "WorkerDied",
            "worker 11 was killed by SIGSEGV while the job was running",
        ),
        (ExitStatus(0, None), None, "WorkerDied", "worker 11 exited with status 0 while the job was running"),
        (
            ExitStatus(None, "SIGKILL"),
            "it sent junk",
            "WorkerChannelLost",
            "the channel to worker 11 broke: it sent junk",
        ),
        (
            ExitStatus(70, None),
            None,
            "WorkerChannelLost",
            "the channel to worker 11 broke: its end was closed while the job was running",
        ),
    ],
)
def test_the_error_says_how_the_worker_ended(
    status: ExitStatus, broken: str | None, type_name: str, message: str
) -> None:
    outcome = from_exit(status, RUN, None, None, broken)
    assert isinstance(outcome, WorkerDied)
    assert outcome.error == ErrorInfo(type=type_name, message=message)
