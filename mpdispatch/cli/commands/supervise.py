"""`supervise`: runs the supervisor in this process. Only its workers import the app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mpdispatch.cli.locate import find_app, find_config, find_settings, find_store, reference_of
from mpdispatch.cli.logs import log_to_stderr
from mpdispatch.cli.map.supervision import NO_APP
from mpdispatch.cli.output import keep_stdout, print_json, print_line
from mpdispatch.cli.program import Options, command
from mpdispatch.cli.values import CONCURRENCY
from mpdispatch.errors import UsageError
from mpdispatch.execution.app_reference import reference_to
from mpdispatch.policy.names import check_name
from mpdispatch.policy.pools import read_pool
from mpdispatch.supervisor import RunReport, supervise


@command(
    "mpdispatch supervise tasks:engine\n"
    "mpdispatch supervise tasks:engine -c auto -q critical,default\n"
    "mpdispatch supervise tasks:engine --pool dask://scheduler:8786\n"
    "mpdispatch supervise tasks:engine --drain\n"
    "mpdispatch supervise --allow-commands --store jobs.db",
    name="supervise",
)
@click.argument("app_argument", metavar="[APP]", required=False)
@click.option("-c", "--concurrency", type=CONCURRENCY, help="Most jobs at once; auto: as many as usable CPUs.")
@click.option("-q", "--queues", metavar="A,B", help="Queues to claim from.")
@click.option(
    "--pool", metavar="POOL", help="Where jobs run: processes (here), or dask://HOST:8786, a cluster."
)
@click.option("--drain", is_flag=True, help="End when nothing is left to run; exit 1 if a job failed.")
@click.option("--allow-commands", is_flag=True, help="Run command jobs too (`mpdispatch run`).")
def supervise_command(
    options: Options,
    app_argument: str | None,
    concurrency: int | str | None,
    queues: str | None,
    pool: str | None,
    drain: bool,
    allow_commands: bool,
) -> int:
    """Run the supervisor: claim jobs and run them in worker processes.

    APP is module:attribute of your engine, for example tasks:engine, or of a function without arguments that makes it;
    the current folder is importable. With --allow-commands and no APP it runs command jobs only.

    SIGTERM or Ctrl-C lets running jobs finish first; a second one ends at once.

    --drain reports the jobs that it leaves in its queues: by reason those that it cannot run and those of paused
    queues, and the number scheduled for later. They are no failure: it exits 0.

    With --json what handlers print goes to stderr.
    """
    found = find_app(options, app_argument)
    if found is None and not allow_commands:
        raise UsageError(
            "no app: name your engine, as in `mpdispatch supervise tasks:engine`, or run command jobs only, with"
            " --allow-commands"
        )
    settings = find_settings(options)
    overrides = _overrides(concurrency, queues, pool)
    # All faults of the environment and the file are reported here, before anything starts.
    find_config(options, overrides)
    if options.json:
        keep_stdout()  # or prints of handlers would be in our JSON
    report = supervise(
        reference_of(found) if found is not None else reference_to(NO_APP),
        # An app has its own store. Without an app it is the one that every other command uses.
        store=find_store(options) if options.store is not None or found is None else None,
        config_overrides=overrides,
        file_config=settings.file_config,
        queue_configs=settings.others["queue_configs"],
        file_crons=settings.file_crons,
        allow_commands=allow_commands,
        drain=drain,
        logger=log_to_stderr(verbose=options.verbose),
    )
    if drain:
        _print_report(options, report)
    return report.exit_code


def _overrides(concurrency: int | str | None, queues: str | None, pool: str | None) -> Mapping[str, Any]:
    overrides: dict[str, Any] = {}
    if concurrency is not None:
        overrides["concurrency"] = concurrency
    if queues is not None:
        names = [check_name("queue name", name.strip()) for name in queues.split(",")]
        if len(set(names)) < len(names):
            raise UsageError(f"-q names a queue twice: {queues}")
        overrides["queues"] = names
    if pool is not None:
        overrides["pool"] = _read_pool(pool)
    return overrides


def _read_pool(pool: str) -> str:
    try:
        return read_pool(pool, True)
    except UsageError as error:
        raise UsageError(f"--pool {error}") from error


def _print_report(options: Options, report: RunReport) -> None:
    if options.json:
        print_json({"failed": report.failed, "parked": dict(report.parked), "scheduled": report.scheduled})
        return
    if report.failed:
        print_line(f"failed: {report.failed}")
    for reason, count in report.parked.items():
        print_line(f"parked: {count} ({reason})")
    if report.scheduled:
        print_line(f"scheduled for later: {report.scheduled}")
