"""The bench: measures each mode beside references in the same run, and prints figures, ratios and targets.

scripts/bench                                         everything in full; some 30 minutes
scripts/bench --quick --only drain --only latency
scripts/bench --peer huey --json > figures.json
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
PEERS = ("huey", "apscheduler", "celery", "parallel")
SIZES = ("full", "quick", "smallest")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"what to measure: {', '.join(MODES)}")
    parser.add_argument("--only", action="append", default=[], choices=MODES, help="the same; may be repeated")
    parser.add_argument("--peer", action="append", default=[], choices=PEERS, help="measure beside it as well")
    parser.add_argument("--size", choices=SIZES, default="full", help="how much to measure")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="as --size quick")
    parser.add_argument("--json", action="store_true", help="print JSON when all is done")
    parser.add_argument("--dir", type=Path, help="where stores are kept meanwhile (default: bench-data here)")
    found = parser.parse_args()
    unknown = sorted(set(found.modes) - set(MODES))
    if unknown:
        parser.error(f"no such mode: {', '.join(unknown)}; there are {', '.join(MODES)}")
    return found


def main() -> int:
    asked = arguments()
    # Ends the processes it started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = [mode for mode in MODES if mode in {*asked.modes, *asked.only}] or list(MODES)
    base = asked.dir or HERE.parents[1] / "bench-data"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=base))
    try:
        return measure(asked, wanted, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(base.iterdir()):
            base.rmdir()


def measure(asked: argparse.Namespace, wanted: list[str], folder: Path) -> int:
    # The app, here and in workers, has its store by this name; it is made when `bench` is imported.
    os.environ["BENCH_STORE"] = str(folder / "app.db")
    bench = importlib.import_module("bench")
    command = shlex.join(["scripts/bench", *sys.argv[1:]])
    return int(bench.run(wanted, asked.peer, asked.size, folder, command=command, is_json=asked.json))


if __name__ == "__main__":
    sys.exit(main())
