"""Completions of values for a shell: ids, queues and job names from the store. Prints no errors and creates nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.program import Options
from mpdispatch.engine.client import JobClient
from mpdispatch.errors import DispatchError
from mpdispatch.model import JobState

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

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

    def items(client: JobClient) -> Iterable[CompletionItem]:
        jobs = [job for state in states or (None,) for job in client.list_jobs(state=state, limit=_JOBS).items]
        jobs.sort(key=lambda job: -job.id)
        return [CompletionItem(str(job.id), help=f"{job.name} ({job.state})") for job in jobs]

    return _of_store(items)


def _dead_letters(client: JobClient) -> Iterable[CompletionItem]:
    for letter in client.dead_letters.list(limit=_JOBS).items:
        yield CompletionItem(str(letter.id), help=f"{letter.name}: {letter.job.last_error or ''}")


def _queues(client: JobClient) -> Iterable[CompletionItem]:
    polled = {queue for supervisor in client.workers() for queue in supervisor.queues}
    return [CompletionItem(name) for name in sorted({*polled, *(each.name for each in client.queue_stats())})]


def _names(client: JobClient) -> Iterable[CompletionItem]:
    jobs = client.list_jobs(limit=1000).items
    return [CompletionItem(name) for name in sorted({job.name for job in jobs})]


complete_job = complete_job_in()
complete_dead_letter = _of_store(_dead_letters)
complete_queue = _of_store(_queues)
complete_name = _of_store(_names)
