"""Arguments and options that several commands share, and what a shell completes in them: ids, queues and job names.

Completing prints no errors and creates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.program import Options
from mpdispatch.cli.values import BATCH_ID, JOB_ID
from mpdispatch.engine.client import JobClient
from mpdispatch.errors import DispatchError
from mpdispatch.model import JobState

if TYPE_CHECKING:  # needed once a shell asks
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])
Completer: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem]]"

_JOBS = 100
"""Only this many of the newest are offered; a store may hold millions."""


def _of_store(items: Callable[[JobClient], Iterable[CompletionItem]]) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            found = items(open_client(ctx.find_object(Options) or Options()))
            return [item for item in found if str(item.value).startswith(incomplete)]
        except DispatchError:
            return []  # no store, or an unreadable one: there are no completions

    return complete


def complete_job_in(*states: JobState) -> Completer:
    """Ids of the newest jobs, of these states if any are named."""
    return _of_store(lambda client: _jobs(client, states))


def _jobs(client: JobClient, states: Iterable[JobState]) -> list[CompletionItem]:
    jobs = [job for state in states or (None,) for job in client.list_jobs(state=state, limit=_JOBS).items]
    jobs.sort(key=lambda job: -job.id)
    return [_item(str(job.id), f"{job.name} ({job.state})") for job in jobs]


def _item(value: str, about: str | None = None) -> CompletionItem:
    from click.shell_completion import CompletionItem

    return CompletionItem(value, help=about)


def _dead_letters(client: JobClient) -> Iterable[CompletionItem]:
    for letter in client.dead_letters.list(limit=_JOBS).items:
        yield _item(str(letter.id), f"{letter.name}: {letter.job.last_error or ''}")


def _queues(client: JobClient) -> Iterable[CompletionItem]:
    polled = {queue for supervisor in client.workers() for queue in supervisor.queues}
    return [_item(name) for name in sorted({*polled, *(each.name for each in client.queue_stats())})]


def _crons(client: JobClient) -> list[CompletionItem]:
    return [_item(each.name, each.schedule) for each in client.crons.list()]


def _batches(client: JobClient) -> Iterable[CompletionItem]:
    for batch in client.batches.list(limit=_JOBS).items:
        yield _item(str(batch.id), f"{batch.name} ({batch.done:,} of {batch.total:,})")


def _batch_names(client: JobClient) -> Iterable[CompletionItem]:
    return [_item(name) for name in sorted({each.name for each in client.batches.list(limit=1000).items})]


def _names(client: JobClient) -> Iterable[CompletionItem]:
    jobs = client.list_jobs(limit=1000).items
    return [_item(name) for name in sorted({job.name for job in jobs})]


complete_job = complete_job_in()
_LIVING = [state for state in JobState if not state.is_terminal]
complete_living = complete_job_in(*_LIVING)
complete_living_or_cron = _of_store(lambda client: [*_jobs(client, _LIVING), *_crons(client)])
complete_dead_letter = _of_store(_dead_letters)
complete_queue = _of_store(_queues)
complete_name = _of_store(_names)
complete_cron = _of_store(_crons)
complete_batch = _of_store(_batches)
complete_batch_name = _of_store(_batch_names)


def given(*parameters: Callable[[F], F]) -> Callable[[F], F]:
    """A decorator that gives a command these arguments and options."""

    def decorate(function: F) -> F:
        for parameter in reversed(parameters):
            function = parameter(function)
        return function

    return decorate


def id_argument(complete: Completer) -> Callable[[F], F]:
    """The id of one job; the command gets it as `job_id`."""
    return click.argument("job_id", metavar="ID", type=JOB_ID, shell_complete=complete)


def ids_argument(complete: Completer, *, required: bool = True) -> Callable[[F], F]:
    """The ids of some jobs; the command gets them as `ids`."""
    metavar = "ID..." if required else "[ID]..."
    return click.argument(
        "ids", metavar=metavar, nargs=-1, required=required, type=JOB_ID, shell_complete=complete
    )


filter_options = given(
    click.option("--queue", metavar="QUEUE", help="Only those of this queue.", shell_complete=complete_queue),
    click.option("--name", metavar="NAME", help="Only those of this name.", shell_complete=complete_name),
)
"""Which jobs; the command gets them as `queue` and `name`."""

batch_option = click.option(
    "--batch",
    metavar="BATCH",
    type=BATCH_ID,
    help="Only members of this batch, by its id.",
    shell_complete=complete_batch,
)
error_option = click.option(
    "--error", metavar="TEXT", help="Only those with this text in their error, which is type: message."
)
letter_filter_options = given(filter_options, batch_option, error_option)
"""Which failures; the command gets them as `queue`, `name`, `batch` and `error`."""

many_options = given(
    letter_filter_options,
    click.option("--all", "everything", is_flag=True, help="All of them."),
    click.option("--yes", is_flag=True, help="Do not ask, on a terminal."),
)
"""Which of very many jobs are to be changed; as `letter_filter_options`, and `everything` and `yes`."""

paging_options = given(
    click.option(
        "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most."
    ),
    click.option("--cursor", metavar="CURSOR", help="Go on where another list ended."),
    click.option("--all", "everything", is_flag=True, help="All of them, whatever --limit says."),
)
"""How many items of a list; the command gets them as the keywords of `output.print_pages`."""
