"""`run`: puts a program into the store as a job. No shell interprets it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from mpdispatch.cli.clients import open_client_to_fill
from mpdispatch.cli.enqueued import print_enqueued
from mpdispatch.cli.job_options import job_options, program_options, unchecked_job
from mpdispatch.cli.locate import find_config
from mpdispatch.cli.program import Options, command
from mpdispatch.execution.commands import environment_of, payload_of
from mpdispatch.model import COMMAND_JOB


@command(
    "mpdispatch run --store jobs.db -- tar czf backup.tgz data\n"
    "mpdispatch run --queue nightly --timeout 1h --env DATABASE_URL -- ./report.sh --all\n"
    "mpdispatch run --wait -- make test",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("argv", metavar="-- CMD [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
@program_options
@job_options
def run(
    options: Options,
    argv: Sequence[str],
    cwd: str | None,
    chosen: Sequence[str],
    create: bool,
    wait: bool,
    **wishes: Any,
) -> int:
    """Put the program CMD with its arguments into the store as a job, and print its id.

    It runs under a supervisor started with --allow-commands, in this folder, without a shell. An exit status other than
    0 fails the job; it is retried only with --max-retries. `mpdispatch logs` and `show` print the last 64 KiB of its
    stdout and stderr.

    Its environment is PATH, HOME, USER, LOGNAME, SHELL, LANG, LANGUAGE, LC_*, TZ and TMPDIR of this shell, and what
    --env names. The store keeps these values, and everybody who can read the store can read them.

    The app's hooks are told of the job if the app is known: by -A, MPDISPATCH_APP or the configuration file.
    """
    payload = payload_of(
        argv,
        cwd=os.path.abspath(cwd or os.curdir),
        env=environment_of(os.environ, chosen),
        max_bytes=find_config(options).max_payload_bytes,
    )
    # Programs, unlike handlers, are not written to run twice: they are retried only on request.
    wanted = unchecked_job(COMMAND_JOB, payload, wishes)
    client = open_client_to_fill(options, may_create=create)
    job = client.add_job(wanted)
    return print_enqueued(options, client, job, wait=wait)
