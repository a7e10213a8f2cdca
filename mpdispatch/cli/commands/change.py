"""`cancel` and `retry`: change what becomes of existing jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from mpdispatch.cli.clients import open_client, open_client_with_hooks
from mpdispatch.cli.enqueued import job_json
from mpdispatch.cli.output import complain, print_json, print_line
from mpdispatch.cli.parameters import complete_job_in, complete_living, ids_argument
from mpdispatch.cli.program import Options, command
from mpdispatch.errors import CronNotFoundError, InvalidStateError, JobNotFoundError
from mpdispatch.model import Job, JobState
from mpdispatch.model.json import to_json

K = TypeVar("K")
T = TypeVar("T")

_AGAIN = (JobState.FAILED, JobState.CANCELLED, JobState.RETRYING, JobState.SCHEDULED)


@command("mpdispatch cancel 41\nmpdispatch cancel 41 42 43")
@ids_argument(complete_living)
def cancel(options: Options, ids: Sequence[int]) -> int:
    """Cancel jobs. A running one is asked to end, and killed if it does not."""

    def message_of(job: Job, job_id: int) -> str:
        is_running = job.state is JobState.RUNNING
        return f"job {job_id} is asked to end" if is_running else f"job {job_id} is {job.state}"

    return each_of(options, ids, open_client(options).cancel, message_of)


@command("mpdispatch retry 41")
@ids_argument(complete_job_in(*_AGAIN))
def retry(options: Options, ids: Sequence[int]) -> int:
    """Run scheduled or retrying jobs now; enqueue failed or cancelled ones again, as new jobs.

    An ended job is enqueued again once; the second time its new job is named. The app's hooks are told of new jobs if
    the app is known: by -A, MPDISPATCH_APP or the configuration file.
    """

    def message_of(job: Job, job_id: int) -> str:
        if job.id == job_id:
            return f"job {job_id} runs now"
        if not job.created:
            return f"job {job_id} was enqueued again before, as job {job.id} ({job.state})"
        return f"job {job_id} runs again as job {job.id}"

    return each_of(options, ids, open_client_with_hooks(options).retry, message_of)


def each_of(
    options: Options, keys: Sequence[K], change: Callable[[K], T], message_of: Callable[[T, K], str]
) -> int:
    """Change one job or cron entry after the other. One that cannot be changed does not stop the others."""
    code, changed = 0, []
    for key in keys:
        try:
            result = change(key)
        except (JobNotFoundError, InvalidStateError, CronNotFoundError) as error:
            complain(str(error))
            code = error.exit_code
            continue
        changed.append(job_json(result) if isinstance(result, Job) else to_json(result))
        if not options.json:
            print_line(message_of(result, key))
    if options.json:
        print_json(changed)
    return code
