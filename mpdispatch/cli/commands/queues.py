"""`queues`, `pause`, `resume` and `workers`: what waits in queues, and who claims from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.output import print_answer, print_json_array, print_table, time_text
from mpdispatch.cli.parameters import complete_queue
from mpdispatch.cli.program import Options, command
from mpdispatch.engine.client import JobClient
from mpdispatch.model import JobState, SupervisorStatus
from mpdispatch.model.json import supervisor_to_json
from mpdispatch.policy.pools import is_cluster


@command("mpdispatch queues\nmpdispatch queues --json")
def queues(options: Options) -> None:
    """List queues: their jobs by state, and how many running supervisors poll each."""
    found = queues_of(open_client(options))
    if options.json:
        print_json_array(found)
        return
    states = [state.value for state in JobState]
    print_table(
        ["queue", "paused", "polled by", *states],
        [
            [
                each["name"],
                "yes" if each["paused"] else "",
                each["supervisors"],
                *(each["jobs"][state] for state in states),
            ]
            for each in found
        ],
        right=["polled by", *states],
    )


def queues_of(client: JobClient) -> list[dict[str, Any]]:
    """Every queue that has jobs, was ever paused or is polled, by name, ready for JSON."""
    living = [each for each in client.workers() if each.is_alive]
    stats = {each.name: each for each in client.queue_stats()}
    names = {*stats, *(queue for each in living for queue in each.queues)}
    return [
        {
            "name": name,
            "paused": name in stats and stats[name].is_paused,
            "supervisors": sum(name in each.queues for each in living),
            "jobs": dict(stats[name].jobs) if name in stats else {state.value: 0 for state in JobState},
        }
        for name in sorted(names)
    ]


@command("mpdispatch pause bulk")
@click.argument("queue", shell_complete=complete_queue)
def pause(options: Options, queue: str) -> None:
    """Stop claiming from QUEUE, on every supervisor of the store.

    Running jobs go on; the others wait until `mpdispatch resume`.
    """
    _set(options, queue, paused=True)


@command("mpdispatch resume bulk")
@click.argument("queue", shell_complete=complete_queue)
def resume(options: Options, queue: str) -> None:
    """Claim from QUEUE again."""
    _set(options, queue, paused=False)


def _set(options: Options, queue: str, *, paused: bool) -> None:
    client = open_client(options)
    (client.pause_queue if paused else client.resume_queue)(queue)
    text = f"queue {queue} is {'paused' if paused else 'running'}"
    print_answer({"queue": queue, "paused": paused}, text, as_json=options.json)


@command("mpdispatch workers\nmpdispatch workers --json")
def workers(options: Options) -> None:
    """Show supervisors and their workers: what each runs, and since when.

    Last stands how many jobs a supervisor has claimed, and how many it runs at once: busy workers hold short ones
    ahead, which count as running. Workers are seen on their own host only, and those of a cluster nowhere.
    """
    found = open_client(options).workers()
    if options.json:
        print_json_array(map(supervisor_to_json, found))
        return
    columns = ["supervisor", "pid", "state", "job", "name", "since", "about"]
    print_table(columns, _worker_rows(found), right=["supervisor", "pid", "job"])


def _worker_rows(supervisors: list[SupervisorStatus]) -> Iterator[Sequence[object]]:
    for each in supervisors:
        about = f"{each.app} on {each.host}, queues {','.join(each.queues)}, {each.jobs} jobs, {each.concurrency} at once"
        if is_cluster(each.pool):
            about += f", run by {each.pool} (`mpdispatch doctor` says what that does not promise)"
        yield each.id, each.pid, each.state, None, None, time_text(each.started_at), about
        for worker in each.workers:
            state = "idle" if worker.job_id is None else "running"
            yield each.id, worker.pid, state, worker.job_id, worker.job_name, time_text(worker.since), "worker"
