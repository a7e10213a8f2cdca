"""`logs`: prints what a job wrote, a command's stdout and stderr or a handler's `current_job().log` lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.output import complain, escape, print_json
from mpdispatch.cli.parameters import complete_job, id_argument
from mpdispatch.cli.program import Options, command
from mpdispatch.clock import sleep
from mpdispatch.engine.client import JobClient
from mpdispatch.errors import UsageError
from mpdispatch.model import JobState, Output, Stream

_PAUSE_S = 0.2

_NOTHING_KEPT = (
    "nothing that is kept: that is what current_job().log(...) and command jobs write; print and logging go to the"
    " supervisor's output"
)


@command("mpdispatch logs 41\nmpdispatch logs 41 -f\nmpdispatch logs 41 --start 1 --stream stderr")
@id_argument(complete_job)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--start", type=click.IntRange(min=1), help="Which start of the job, if not the last.")
@click.option("--stream", type=click.Choice([each.value for each in Stream]), help="Only this one.")
def logs(options: Options, job_id: int, follow: bool, start: int | None, stream: str | None) -> None:
    """Print what a job wrote in its last start: the last 64 KiB of each stream.

    Kept are the stdout and stderr of commands (`mpdispatch run`) and what handlers give to current_job().log(...).
    What handlers print or log goes where their supervisor's does.

    What a command wrote to stderr goes to stderr, all else to stdout. With -f it follows a job that runs, with a
    second's delay.
    """
    client = open_client(options)
    if follow:
        _follow(client, options, job_id, start, stream)
        return
    kept = client.outputs(job_id)
    _refuse_unless_started(client, job_id, start, kept)
    outputs = _of_start(kept, start, stream)
    if not options.json:
        for output in outputs:
            _print(output.stream, output.text)
        _warn_if_nothing(job_id, start, kept)
        return
    starts = outputs[0].starts if outputs else start
    texts = {each.stream.value: each.text for each in outputs}
    print_json({"id": job_id, "start": starts, **{each.value: texts.get(each.value) for each in Stream}})


def _refuse_unless_started(client: JobClient, job_id: int, start: int | None, kept: Sequence[Output]) -> None:
    if start is None:
        return
    job = client.get_job(job_id)
    # A claim that was released before the handler began is a start without a trace.
    known = {each.starts for each in client.attempts(job_id)} | {each.starts for each in kept}
    if job.state is JobState.RUNNING:
        known.add(job.starts)
    if start not in known:
        there_are = "it has not been started yet"
        if known:
            there_are = f"there are {', '.join(map(str, sorted(known)))}"
        raise UsageError(f"--start: job {job_id} has no start {start}; {there_are}")


def _warn_if_nothing(job_id: int, start: int | None, kept: Sequence[Output]) -> None:
    if not _of_start(kept, start, None):
        complain(f"job {job_id} {f'wrote in start {start}' if start else 'wrote'} {_NOTHING_KEPT}")


def _of_start(outputs: Sequence[Output], start: int | None, stream: str | None) -> list[Output]:
    last = max((each.starts for each in outputs), default=0) if start is None else start
    return [each for each in outputs if each.starts == last and stream in (None, each.stream.value)]


def _follow(client: JobClient, options: Options, job_id: int, start: int | None, stream: str | None) -> None:
    seen: dict[tuple[int, Stream], int] = {}
    while True:
        # Read before the outputs, or the last of them would be missed.
        has_ended = client.state_of(job_id).is_terminal
        kept = client.outputs(job_id)
        for output in _of_start(kept, start, stream):
            key = output.starts, output.stream
            if news := min(output.written - seen.get(key, 0), len(output.text)):
                seen[key] = output.written
                text = output.text[-news:]
                if options.json:
                    print_json({"start": output.starts, "stream": output.stream.value, "text": text}, line=True)
                else:
                    _print(output.stream, text)
        if has_ended:
            _refuse_unless_started(client, job_id, start, kept)
            if not options.json:
                _warn_if_nothing(job_id, start, kept)
            return
        sleep(_PAUSE_S)


def _print(stream: Stream, text: str) -> None:
    file = sys.stderr if stream is Stream.STDERR else sys.stdout
    if file.isatty():
        # Escape sequences are shown as text: a job must not control the terminal of its reader.
        text = "\n".join(escape(line) for line in text.expandtabs().split("\n"))
    file.write(text)
    file.flush()
