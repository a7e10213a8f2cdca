"""What became of a job, as an Outcome: from its worker's answer, or from its worker's end. Pure."""

from __future__ import annotations

from mpdispatch.model import (
    Aborted,
    Answer,
    Cancelled,
    Completed,
    ErrorInfo,
    Outcome,
    Raised,
    Run,
    TimedOut,
    WorkerDied,
)
from mpdispatch.pool.channel import EXIT_CHANNEL_LOST
from mpdispatch.pool.process import Doom, Ending

__all__ = ["of_answer", "of_death"]


def of_answer(answer: Answer, doom: Doom | None, timeout_us: int | None) -> Outcome:
    """The outcome of a job its worker answered for, given what we had asked of it.

    A result that came before the kill counts for a cancel and a shutdown, not after a timeout.
    """
    if doom is None:
        return answer
    run = answer.run or Run(started_us=0)
    match doom:
        case Doom.TIMEOUT:
            return TimedOut(run=run, error=_timeout_error(timeout_us, answer))
        case Doom.CANCEL if not isinstance(answer, Completed):
            return Cancelled(run=run, error=ErrorInfo(type="JobCancelled", message="cancelled on request"))
        case Doom.ABORT if not isinstance(answer, Completed):
            return Aborted(run=run, error=_abort_error("it was asked to end"))
    return answer


def of_death(
    ending: Ending, run: Run, doom: Doom | None, timeout_us: int | None, broken: str | None
) -> Outcome:
    """The outcome of a job that was running when its worker ended."""
    match doom:
        case Doom.TIMEOUT:
            return TimedOut(run=run, error=_timeout_error(timeout_us, None), signal=ending.signal)
        case Doom.CANCEL:
            error = ErrorInfo(type="JobCancelled", message="cancelled on request; its worker was killed")
            return Cancelled(run=run, error=error)
        case Doom.ABORT:
            return Aborted(run=run, error=_abort_error("its worker was killed"))
    if broken is None and ending.exit_status == EXIT_CHANNEL_LOST:
        broken = "its end was closed while the job was running"
    if broken is not None:
        error = ErrorInfo(
            type="WorkerChannelLost", message=f"the channel to worker {run.worker_pid} broke: {broken}"
        )
    else:
        hint = " (possibly out of memory)" if ending.signal == "SIGKILL" else ""
        error = ErrorInfo(
            type="WorkerDied", message=f"worker {run.worker_pid} {ending}{hint} while the job was running"
        )
    return WorkerDied(run=run, error=error, exit_status=ending.exit_status, signal=ending.signal)


def _timeout_error(timeout_us: int | None, answer: Answer | None) -> ErrorInfo:
    # A rescuer does not know what was the default where the job was claimed.
    known = "" if timeout_us is None else f" of {timeout_us / 1e6:g} s"
    traceback = answer.error.traceback if isinstance(answer, Raised) else ""
    return ErrorInfo(type="JobTimeout", message=f"ran longer than its timeout{known}", traceback=traceback)


def _abort_error(how: str) -> ErrorInfo:
    return ErrorInfo(type="ShutdownAborted", message=f"the supervisor shut down before the job was done; {how}")
