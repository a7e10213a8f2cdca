"""The Outcome of a job, from its worker's answer or from its worker's end. Pure."""

from __future__ import annotations

from mpdispatch.model import (
    Aborted,
    Answer,
    Cancelled,
    Completed,
    ErrorInfo,
    Expired,
    Outcome,
    Raised,
    Run,
    TimedOut,
    WorkerDied,
)
from mpdispatch.pool.assigned import StopReason
from mpdispatch.pool.channel import EXIT_CHANNEL_LOST
from mpdispatch.pool.exec import ExitStatus


def from_reply(answer: Answer, stop_reason: StopReason | None, timeout_us: int | None) -> Outcome:
    """The outcome of an answered job, given why we were ending it, if we were.

    A result that comes before the kill counts after a cancel and a shutdown, but not after a timeout. A job that had
    expired was not begun.
    """
    if stop_reason is None or isinstance(answer, Expired):
        return answer
    run = answer.run or Run(started_us=0)
    match stop_reason:
        case StopReason.TIMEOUT:
            return TimedOut(run=run, error=_timeout_error(timeout_us, answer))
        case StopReason.CANCEL if not isinstance(answer, Completed):
            return Cancelled(run=run, error=ErrorInfo(type="JobCancelled", message="cancelled on request"))
        case StopReason.ABORT if not isinstance(answer, Completed):
            return Aborted(run=run, error=_abort_error("it was asked to end"))
    return answer


def from_exit(
    status: ExitStatus, run: Run, stop_reason: StopReason | None, timeout_us: int | None, broken: str | None
) -> Outcome:
    """The outcome of a job that was running when its worker ended."""
    match stop_reason:
        case StopReason.TIMEOUT:
            return TimedOut(run=run, error=_timeout_error(timeout_us, None), signal=status.signal)
        case StopReason.CANCEL:
            error = ErrorInfo(type="JobCancelled", message="cancelled on request; its worker was killed")
            return Cancelled(run=run, error=error)
        case StopReason.ABORT:
            return Aborted(run=run, error=_abort_error("its worker was killed"))
    if broken is None and status.code == EXIT_CHANNEL_LOST:
        broken = "its end was closed while the job was running"
    if broken is not None:
        error = ErrorInfo(
            type="WorkerChannelLost", message=f"the channel to worker {run.worker_pid} broke: {broken}"
        )
    else:
        hint = " (possibly out of memory)" if status.signal == "SIGKILL" else ""
        error = ErrorInfo(
            type="WorkerDied", message=f"worker {run.worker_pid} {status}{hint} while the job was running"
        )
    return WorkerDied(run=run, error=error, exit_status=status.code, signal=status.signal)


def _timeout_error(timeout_us: int | None, answer: Answer | None) -> ErrorInfo:
    # A rescuer does not know the default timeout of the supervisor that claimed the job.
    known = "" if timeout_us is None else f" of {timeout_us / 1e6:g} s"
    traceback = answer.error.traceback if isinstance(answer, Raised) else ""
    return ErrorInfo(type="JobTimeout", message=f"ran longer than its timeout{known}", traceback=traceback)


def _abort_error(how: str) -> ErrorInfo:
    return ErrorInfo(type="ShutdownAborted", message=f"the supervisor shut down before the job was done; {how}")
