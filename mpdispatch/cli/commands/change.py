"""`cancel` and `retry`: change what becomes of existing jobs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

import click

from mpdispatch.cli.clients import open_client, open_client_with_hooks
from mpdispatch.cli.enqueued import job_json
from mpdispatch.cli.output import complain, print_answer, print_json, print_line
from mpdispatch.cli.parameters import complete_job_in, complete_living, ids_argument, many_options
from mpdispatch.cli.program import Options, command
from mpdispatch.engine.again import RETRIABLE
from mpdispatch.errors import CronNotFoundError, InvalidStateError, JobNotFoundError
from mpdispatch.model import Job, JobState, Retried
from mpdispatch.model.json import to_json

K = TypeVar("K")
T = TypeVar("T")

_ERRORS_SHOWN = 10


@command("mpdispatch cancel 41\nmpdispatch cancel 41 42 43")
@ids_argument(complete_living)
def cancel(options: Options, ids: Sequence[int]) -> int:
    """Cancel jobs. A running one is asked to end, and killed if it does not."""

    def message_of(job: Job, job_id: int) -> str:
        is_running = job.state is JobState.RUNNING
        return f"job {job_id} is asked to end" if is_running else f"job {job_id} is {job.state}"

    return each_of(options, ids, open_client(options).cancel, message_of)


@command(
    "mpdispatch retry 41\nmpdispatch retry --name render --error 'HTTP 503'\nmpdispatch retry --batch 7 --state cancelled"
)
@ids_argument(complete_job_in(*RETRIABLE), required=False)
@click.option(
    "--state",
    type=click.Choice([state.value for state in RETRIABLE]),
    help="Only jobs in this state; without it failed and retrying ones.",
)
@many_options
def retry(options: Options, ids: Sequence[int], **selection: Any) -> int:
    """Run scheduled or retrying jobs now; enqueue failed or cancelled ones again, as new jobs.

    By their ids, or all that the options select. An ended job is enqueued again once; the second time its new job is
    named. The app's hooks are told of new jobs if the app is known: by -A, MPDISPATCH_APP or the configuration file.
    """
    refuse_mixture(ids, **selection)
    client = open_client_with_hooks(options)
    if not ids:
        return many_again(options, client.retry_all, "retried", **selection)

    def message_of(job: Job, job_id: int) -> str:
        if job.id == job_id:
            return f"job {job_id} runs now"
        if not job.created:
            return f"job {job_id} was enqueued again before, as job {job.id} ({job.state})"
        return f"job {job_id} runs again as job {job.id}"

    return each_of(options, ids, client.retry, message_of)


def refuse_mixture(ids: Sequence[int], **selection: Any) -> None:
    """Raises a usage error unless either ids or options say which jobs."""
    del selection["yes"]
    given = [name for name, value in selection.items() if value]
    if ids and given:
        raise click.UsageError("give ids or options that select jobs, not both")
    if not ids and given in ([], ["state"]):
        raise click.UsageError("say which jobs: ids, --queue, --name, --batch, --error or --all")


def many_again(
    options: Options, again: Callable[..., Retried], done_word: str, *, yes: bool, **selection: Any
) -> int:
    """Run all selected jobs again, and say how many; on a terminal it asks first. Exits 1 if one could not be."""

    def ask(count: int) -> None:
        if count and not yes and sys.stdin.isatty() and sys.stderr.isatty():
            click.confirm(
                f"{count:,} {'job' if count == 1 else 'jobs'} will run again. Go on?", abort=True, err=True
            )

    done = again(**selection, on_selected=ask)
    for text in islice(done.errors.values(), _ERRORS_SHOWN):
        complain(text)
    if (more := len(done.errors) - _ERRORS_SHOWN) > 0:
        complain(f"and {more:,} more")
    answer = {done_word: done.count, "errors": len(done.errors)}
    errors = "1 error" if len(done.errors) == 1 else f"{len(done.errors):,} errors"
    print_answer(answer, f"{done_word} {done.count:,}, {errors}", as_json=options.json)
    return 1 if done.errors else 0


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
