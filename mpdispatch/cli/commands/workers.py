"""`workers`: the supervisors of a store and their worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.output import print_json_array, print_table, time_text
from mpdispatch.cli.program import Options, command
from mpdispatch.model import SupervisorStatus
from mpdispatch.model.json import supervisor_to_json


@command("mpdispatch workers\nmpdispatch workers --json")
@click.pass_obj
def workers(options: Options) -> None:
    """Show supervisors and their workers: what each runs, and since when.

    Workers are seen on their own host only.
    """
    found = open_client(options).workers()
    if options.json:
        print_json_array(map(supervisor_to_json, found))
        return
    columns = ["supervisor", "pid", "state", "job", "name", "since", "about"]
    print_table(columns, _rows(found), right=["supervisor", "pid", "job"])


def _rows(supervisors: list[SupervisorStatus]) -> Iterator[Sequence[object]]:
    for each in supervisors:
        about = f"{each.app} on {each.host}, queues {','.join(each.queues)}, {each.jobs} of {each.concurrency}"
        yield each.id, each.pid, each.state, None, None, time_text(each.started_at), about
        for worker in each.workers:
            state = "idle" if worker.job_id is None else "running"
            yield each.id, worker.pid, state, worker.job_id, worker.job_name, time_text(worker.since), "worker"
