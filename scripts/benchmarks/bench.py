"""Runs the modes one after the other, and prints what they find as they find it."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import backlog
import costs
import cpu
import cron
import drain
import enqueue
import footprint
import forkserver
import latency
import map_results
import mapping
import retention
import start
import supervisors
from peers import KNOWN, SCHEDULERS, parallel, scheduler
from report import Figure, Report, facts, header
from run import Run
from server_peers import server_peer
from servers import Server
from sizes import SIZES

MODES: Mapping[str, Callable[[Run], Iterator[Figure]]] = {
    "drain": drain.measure,
    "supervisors": supervisors.measure,
    "map-results": map_results.measure,
    "enqueue": enqueue.measure,
    "latency": latency.measure,
    "cpu": cpu.measure,
    "backlog": backlog.measure,
    "retention": retention.measure,
    "footprint": footprint.measure,
    "start": start.measure,
    "forkserver": forkserver.measure,
    "cron": cron.measure,
    "map": mapping.measure,
    "profile": costs.measure,
}


def run(
    wanted: Sequence[str],
    peers: Sequence[str],
    size: str,
    folder: Path,
    *,
    server: Server | None,
    command: str,
    is_json: bool,
) -> int:
    """Measure these modes; 1 if one of them could not be. A target that is missed is a finding, no failure.

    `server`: where stores and peers are; None: in files of the folder.
    """
    names = dict.fromkeys(peers)
    if server is None:
        found = Run(
            folder,
            SIZES[size],
            [KNOWN[name](folder) for name in names if name in KNOWN and set(wanted) - {"cron", "map"}],
            [scheduler(name, folder) for name in names if name in SCHEDULERS and "cron" in wanted],
            parallel=parallel() if "parallel" in names else None,
        )
    else:
        found = Run(folder, SIZES[size], [server_peer(name, folder, server) for name in names], server=server)
    report = Report(facts(command, size, folder, found.peers, server))
    say = sys.stderr if is_json else sys.stdout
    print(header(report.facts), file=say, flush=True)
    for mode in wanted:
        print(f"\n{mode}", file=say, flush=True)
        try:
            for figure in MODES[mode](found):
                report.figures.append(figure)
                print(f"  {figure.as_text()}", file=say, flush=True)
        except Exception as error:  # noqa: BLE001 - the other modes can still be measured
            report.errors[mode] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
    if is_json:
        print(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    return 1 if report.errors else 0
