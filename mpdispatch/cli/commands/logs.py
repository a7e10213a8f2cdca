"""`logs`: what a job wrote: a command's stdout and stderr, a handler's `current_job().log` lines."""

from __future__ import annotations

import sys
import time

import click

from mpdispatch.cli.completing import complete_job
from mpdispatch.cli.output import escape, print_json
from mpdispatch.cli.places import open_existing
from mpdispatch.cli.program import Options, command
from mpdispatch.model import Output, Stream
from mpdispatch.store.base import Store

__all__ = ["logs"]

_PAUSE_S = 0.2


@command("mpdispatch logs 41\nmpdispatch logs 41 -f\nmpdispatch logs 41 --start 1 --stream stderr")
@click.argument("job_id", metavar="ID", type=click.IntRange(min=1), shell_complete=complete_job)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--start", type=click.IntRange(min=1), help="Which start of the job, if not the last.")
@click.option("--stream", type=click.Choice([each.value for each in Stream]), help="Only this one.")
@click.pass_obj
def logs(options: Options, job_id: int, follow: bool, start: int | None, stream: str | None) -> None:
    """Print what a job wrote in its last start: the last 64 KiB of each stream.

    What a command wrote to stderr goes to stderr, all else to stdout. With -f it follows a job that runs, with a
    second's delay.
    """
    store = open_existing(options)
    if follow:
        _follow(store, options, job_id, start, stream)
        return
    outputs = _of_start(store.outputs(job_id), start, stream)
    if not options.json:
        for output in outputs:
            _print(output.stream, output.text)
        return
    starts = outputs[0].starts if outputs else start
    texts = {each.stream.value: each.text for each in outputs}
    print_json({"id": job_id, "start": starts, **{each.value: texts.get(each.value) for each in Stream}})


def _of_start(outputs: list[Output], start: int | None, stream: str | None) -> list[Output]:
    last = max((each.starts for each in outputs), default=0) if start is None else start
    return [each for each in outputs if each.starts == last and stream in (None, each.stream.value)]


def _follow(store: Store, options: Options, job_id: int, start: int | None, stream: str | None) -> None:
    seen: dict[tuple[int, Stream], int] = {}
    while True:
        has_ended = store.state_of(job_id).is_terminal  # before the last look, or its last words are missed
        for output in _of_start(store.outputs(job_id), start, stream):
            key = output.starts, output.stream
            if news := min(output.written - seen.get(key, 0), len(output.text)):
                seen[key] = output.written
                text = output.text[-news:]
                if options.json:
                    print_json({"start": output.starts, "stream": output.stream.value, "text": text}, line=True)
                else:
                    _print(output.stream, text)
        if has_ended:
            return
        time.sleep(_PAUSE_S)


def _print(stream: Stream, text: str) -> None:
    file = sys.stderr if stream is Stream.STDERR else sys.stdout
    if file.isatty():
        # Colours and all else are shown as text: a job must not steer the terminal of who looks at it.
        text = "\n".join(escape(line) for line in text.expandtabs().split("\n"))
    file.write(text)
    file.flush()
