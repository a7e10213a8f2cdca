"""What can be wrong with a job, its handler or the app."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mpdispatch.errors.base import DispatchError, Fault

_NAMES_SHOWN = 20


class RegistrationError(DispatchError):
    """A function cannot become a handler (its signature, name or options do not allow it)."""

    exit_code = 2


class DuplicateJobError(RegistrationError):
    """Two handlers claim the same job name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name, self.first, self.second = name, first, second
        other = "another function of that name" if first == second else second
        super().__init__(f"job name {name!r} is taken by {first}; {other} needs a name= of its own")


class UnknownJobError(DispatchError):
    """No handler is registered under this name."""

    exit_code = 2

    def __init__(self, name: str, *, known: Sequence[str], where: str = "this engine") -> None:
        self.name, self.known = name, tuple(known)
        from difflib import get_close_matches  # 10 ms that only this error needs

        text = str(name)[:200]  # whoever asks for one may give a megabyte
        near = get_close_matches(text, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        names = ", ".join(sorted(known)[:_NAMES_SHOWN]) or "none"
        if (more := len(known) - _NAMES_SHOWN) > 0:
            names += f" and {more} more"
        super().__init__(f"no handler {text!r} in {where}; {hint}registered: {names}")


class PayloadError(DispatchError):
    """The arguments of a job do not fit its handler, or cannot be kept as JSON."""

    exit_code = 2

    def __init__(self, job_name: str, faults: Iterable[Fault]) -> None:
        self.job_name = job_name
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__(f"job {job_name!r}: " + "; ".join(map(str, self.faults)))


class BatchError(PayloadError):
    """An item of `enqueue_many` does not fit. Nothing of its chunk is stored; what came before it is.

    `index` is the item's place in the iterable, `stored` how many jobs were enqueued before the failure, `batch_id`
    the batch they are in (None if there are none).
    """

    def __init__(
        self, job_name: str, faults: Iterable[Fault], *, index: int, stored: int, batch_id: int | None
    ) -> None:
        self.index, self.stored, self.batch_id = index, stored, batch_id
        placed = [
            Fault(f"[{index}].{fault.key}" if fault.key else f"[{index}]", fault.message) for fault in faults
        ]
        kept = (
            f"{stored:,} jobs before it are enqueued, as batch {batch_id}" if stored else "no job is enqueued"
        )
        super().__init__(job_name, [*placed, Fault("", kept)])


class ResultError(DispatchError):
    """What a handler returned cannot be kept: not JSON, or too large. The job fails without retry."""


class JobNotFoundError(DispatchError):
    """There is no job with this id (it never existed, or was pruned)."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} not found")


class DeadLetterNotFoundError(JobNotFoundError):
    """No dead letter has this id: the job did not fail, or its dead letter was purged."""

    def __init__(self, job_id: int) -> None:
        super().__init__(job_id)
        self.args = (f"dead letter {job_id} not found: job {job_id} has not failed, or it was purged",)


class CommandFailedError(DispatchError):
    """The program of a command job did not exit with 0. One of `exit_status` and `signal` is None."""

    def __init__(
        self, program: str, *, exit_status: int | None = None, signal: str | None = None, detail: str = ""
    ) -> None:
        self.program, self.exit_status, self.signal, self.detail = program, exit_status, signal, detail
        how = f"was killed by {signal}" if signal is not None else f"exit status {exit_status}"
        super().__init__(f"{program}: {how}" + (f": {detail}" if detail else ""))


class InvalidStateError(DispatchError):
    """The job's state does not allow what was asked."""

    def __init__(self, job_id: int, state: str, wanted: str) -> None:
        self.job_id, self.state, self.wanted = job_id, state, wanted
        super().__init__(f"job {job_id} is {state}; {wanted}")


class JobFailedError(DispatchError):
    """`wait()` saw the job fail. `job` is its final state, `error` the handler's ErrorInfo (or None)."""

    def __init__(self, job: Any, error: Any) -> None:
        self.job, self.error = job, error
        super().__init__(f"job {job.id} ({job.name}) failed: {error if error is not None else 'no error kept'}")


class JobCancelledError(DispatchError):
    """`wait()` saw the job end as cancelled. `job` is its final state."""

    def __init__(self, job: Any) -> None:
        self.job = job
        why = f": {job.last_error.message}" if job.last_error is not None else ""
        super().__init__(f"job {job.id} ({job.name}) was cancelled{why}")


class WaitTimeoutError(DispatchError, TimeoutError):
    """`wait()` gave up before the job ended; the job itself goes on. `others`: how many more have not ended either."""

    def __init__(self, job_id: int, timeout_s: float, state: str, why: str = "", *, others: int = 0) -> None:
        self.job_id, self.timeout_s, self.state, self.why = job_id, timeout_s, state, why
        self.others = others
        more = f" (and {others:,} more have not ended)" if others else ""
        super().__init__(
            f"job {job_id} is still {state} after {timeout_s:g} s{more}" + (f": {why}" if why else "")
        )


class AppReferenceError(DispatchError):
    """A worker process could not be told where the handlers are, or the reference names no engine."""

    exit_code = 70

    def __init__(self, reason: str, *, app: str = "") -> None:
        self.app, self.reason = app, reason
        super().__init__(f"app {app!r}: {reason}" if app else reason)


class AppImportError(DispatchError):
    """Importing the app failed in a worker. `traceback` is the text of its traceback."""

    exit_code = 70

    def __init__(self, app: str, reason: str, traceback: str = "") -> None:
        self.app, self.reason, self.traceback = app, reason, traceback
        super().__init__(f"app {app!r} does not import: {reason}")


class WrongProcessError(DispatchError):
    """This call makes no sense inside a worker process (a worker starts no supervisor)."""

    exit_code = 70
