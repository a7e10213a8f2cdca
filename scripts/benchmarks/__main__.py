"""The bench: measures each mode beside references in the same run, and prints figures, ratios and targets.

scripts/bench                                         everything in full; some 30 minutes
scripts/bench --quick --only drain --only latency
scripts/bench --peer huey --json > figures.json
scripts/bench --store postgres --peer pgqueuer        stores and peers on one server, started for this
scripts/bench --store redis://host:6379 drain         on a server that is there, and empty
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODES = (
    "drain",
    "supervisors",
    "map-results",
    "enqueue",
    "latency",
    "cpu",
    "backlog",
    "retention",
    "footprint",
    "start",
    "forkserver",
    "cron",
    "map",
    "profile",
)
ON_SERVERS = ("drain", "supervisors", "latency")
"""What is measured on a server unless modes are named."""
ON_FILES = ("enqueue", "retention", "cron", "map")
"""What is about a file, or beside something that is on files."""
PEERS = {
    "sqlite": ("huey", "apscheduler", "celery", "parallel"),
    "postgres": ("pgqueuer", "procrastinate"),
    "redis": ("taskiq", "rq", "celery", "dramatiq"),
}
SIZES = ("full", "quick", "smallest")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"what to measure: {', '.join(MODES)}")
    parser.add_argument("--only", action="append", default=[], choices=MODES, help="the same; may be repeated")
    peers = "; ".join(f"{store}: {', '.join(names)}" for store, names in PEERS.items())
    parser.add_argument(
        "--peer", action="append", default=[], metavar="PEER", help=f"measure beside it as well ({peers})"
    )
    parser.add_argument(
        "--store",
        default="sqlite",
        metavar="STORE",
        help="sqlite, postgres, redis or valkey, or the URL of a server that may be filled",
    )
    parser.add_argument("--size", choices=SIZES, default="full", help="how much to measure")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="as --size quick")
    parser.add_argument("--json", action="store_true", help="print JSON when all is done")
    parser.add_argument("--dir", type=Path, help="where stores are kept meanwhile (default: bench-data here)")
    found = parser.parse_args()
    unknown = sorted(set(found.modes) - set(MODES))
    if unknown:
        parser.error(f"no such mode: {', '.join(unknown)}; there are {', '.join(MODES)}")
    found.modes = [mode for mode in MODES if mode in {*found.modes, *found.only}]
    problem = problem_of(found)
    if problem:
        parser.error(problem)
    return found


def problem_of(asked: argparse.Namespace) -> str:
    """What does not go together in what was asked for; empty: nothing."""
    kind = "sqlite"
    if asked.store != kind:
        servers = importlib.import_module("servers")
        try:
            kind = servers.kind_of(asked.store)
        except servers.ServerProblem as problem:
            return str(problem)
        on_files = [mode for mode in asked.modes if mode in ON_FILES]
        if on_files:
            return f"measured with --store sqlite only: {', '.join(on_files)}"
    peers = PEERS["redis" if kind == "valkey" else kind]
    strangers = [peer for peer in asked.peer if peer not in peers]
    if strangers:
        return f"no peer on {kind}: {', '.join(strangers)}; there are {', '.join(peers)}"
    return ""


def main() -> int:
    asked = arguments()
    # Ends the processes it started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    base = asked.dir or HERE.parents[1] / "bench-data"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=base))
    try:
        return measure(asked, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(base.iterdir()):
            base.rmdir()


def measure(asked: argparse.Namespace, folder: Path) -> int:
    if asked.store == "sqlite":
        return run(asked, asked.modes or list(MODES), folder, str(folder / "app.db"))
    servers = importlib.import_module("servers")
    try:
        with servers.server(asked.store) as server:
            return run(asked, asked.modes or list(ON_SERVERS), folder, server.location("app"), server)
    except servers.ServerProblem as problem:
        raise SystemExit(f"scripts/bench: {problem}") from None


def run(asked: argparse.Namespace, wanted: list[str], folder: Path, store: str, server: object = None) -> int:
    # The app, here and in workers, has its store by this name; it is made when `bench` is imported.
    os.environ["BENCH_STORE"] = store
    bench = importlib.import_module("bench")
    without_password = importlib.import_module("mpdispatch.store.display").without_password
    command = shlex.join(["scripts/bench", *map(without_password, sys.argv[1:])])
    return int(
        bench.run(wanted, asked.peer, asked.size, folder, server=server, command=command, is_json=asked.json)
    )


if __name__ == "__main__":
    sys.exit(main())
