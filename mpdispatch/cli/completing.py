"""What a shell is offered for a value: ids, queues and job names out of the store. Never complains, never creates."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from mpdispatch.cli.locate import open_existing
from mpdispatch.cli.program import Options
from mpdispatch.errors import DispatchError
from mpdispatch.model import JobState
from mpdispatch.store.contract import DeadLetterFilter, JobFilter, Store

__all__ = ["complete_dead_letter", "complete_job", "complete_job_in", "complete_name", "complete_queue"]

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_JOBS = 100
"""So many of the newest are offered; a store may hold millions."""


def _of_store(items: Callable[[Store], Iterable[CompletionItem]]) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            found = items(open_existing(ctx.find_object(Options) or Options()))
            return [item for item in found if str(item.value).startswith(incomplete)]
        except DispatchError:
            return []  # no store, or one that cannot be read: nothing to offer, and nobody to tell

    return complete


def complete_job_in(*states: JobState) -> Completer:
    """Ids of the newest jobs, of these states if any are named."""

    def items(store: Store) -> Iterable[CompletionItem]:
        filters = [JobFilter(state=state) for state in states] or [JobFilter()]
        jobs = [job for where in filters for job in store.list_jobs(where, limit=_JOBS, cursor=None).items]
        jobs.sort(key=lambda job: -job.id)
        return [CompletionItem(str(job.id), help=f"{job.name} ({job.state})") for job in jobs]

    return _of_store(items)


def _dead_letters(store: Store) -> Iterable[CompletionItem]:
    for letter in store.dead_letters(DeadLetterFilter(), limit=_JOBS, cursor=None).items:
        yield CompletionItem(str(letter.id), help=f"{letter.name}: {letter.job.last_error or ''}")


def _queues(store: Store) -> Iterable[CompletionItem]:
    polled = {queue for supervisor in store.supervisors() for queue in supervisor.queues}
    return [CompletionItem(name) for name in sorted({*polled, *(each.name for each in store.queue_stats())})]


def _names(store: Store) -> Iterable[CompletionItem]:
    jobs = store.list_jobs(JobFilter(), limit=1000, cursor=None).items
    return [CompletionItem(name) for name in sorted({job.name for job in jobs})]


complete_job = complete_job_in()
complete_dead_letter = _of_store(_dead_letters)
complete_queue = _of_store(_queues)
complete_name = _of_store(_names)
