"""Measures every module of this Python's standard library: one durable job per file, on all your CPUs.

Run it with `scripts/quickstart`. Every run is a new batch in the same store.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import shlex
import sys
import sysconfig
import time
import tokenize
import warnings
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mpdispatch import Dispatcher, Engine, Job, JobState, SQLiteStore

DATA = Path(os.environ.get("QUICKSTART_DATA") or Path(__file__).resolve().parents[2] / "quickstart-data")
STORE = DATA / "jobs.db"

dispatcher = Dispatcher(store=SQLiteStore(STORE), concurrency="auto")
engine = Engine.build(dispatcher)

BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.Assert,
    ast.match_case,
)


def branches(tree: ast.AST) -> int:
    """Places where the code goes one way or another; with one per function that is McCabe's complexity."""
    nodes = list(ast.walk(tree))
    both_ways = sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    return both_ways + sum(isinstance(node, BRANCHES) for node in nodes)


@engine.job(max_retries=0, timeout=120)
def measure(path: str) -> dict[str, Any]:
    """Lines, tokens, nodes and functions of one file. Real work: 1 ms to 2 s of CPU each."""
    source = Path(path).read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # some test files hold bad escapes on purpose
            tree = ast.parse(source, filename=path)
        tokens = sum(1 for _ in tokenize.tokenize(io.BytesIO(source).readline))
    except (SyntaxError, ValueError) as error:
        # The test suite of Python holds files that are wrong on purpose. That is a finding, no failure.
        return {"unparsable": f"{type(error).__name__}: {error}"}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    spans = [(f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions]
    return {
        "lines": source.count(b"\n"),
        "tokens": tokens,
        "nodes": sum(1 for _ in ast.walk(tree)),
        "functions": len(functions),
        "complexity": len(functions) + branches(tree),
        "longest": sorted(spans, key=lambda span: -span[1])[:5],
    }


def library_files() -> list[str]:
    top = Path(sysconfig.get_path("stdlib"))
    files = (path for path in top.rglob("*.py") if not {"site-packages", "dist-packages"} & set(path.parts))
    return sorted(map(str, files))


def unfinished() -> int:
    """Jobs in the store that are not done with; an interrupted run may have left some of them."""
    return sum(count for state, count in engine.counts().items() if not state.is_terminal)


def run(paths: list[str], console: Console) -> tuple[list[Job], float]:
    """Enqueue, run, collect: the jobs as they ended, and the seconds from the first enqueue to the last end."""
    began = time.perf_counter()
    batch = engine.enqueue_many("measure", ({"path": path} for path in paths))
    total = unfinished()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with dispatcher, Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("measuring", total=total)
        while left := unfinished():
            progress.update(task, completed=total - left)
            time.sleep(0.05)
        elapsed_s = time.perf_counter() - began
        progress.update(task, completed=total)
    return [engine.get_job(job_id) for job_id in batch], elapsed_s


def plain_table(title: str, first: str, *numbers: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def report(jobs: list[Job], elapsed_s: float, console: Console) -> bool:
    """Print what was found; False if a job failed."""
    failed = [job for job in jobs if job.state is not JobState.COMPLETED]
    results = {job.payload["path"]: job.result for job in jobs if job.state is JobState.COMPLETED}
    parsed = {path: result for path, result in results.items() if "unparsable" not in result}
    top = sysconfig.get_path("stdlib") + os.sep

    columns = ("complexity", "functions", "lines", "tokens", "nodes")
    table = plain_table("Ten most complex modules", "module", *columns)
    for path, r in sorted(parsed.items(), key=lambda item: -item[1]["complexity"])[:10]:
        table.add_row(path.removeprefix(top), *(f"{r[column]:,}" for column in columns))
    table.add_section()
    table.add_row("all", *(f"{sum(r[column] for r in parsed.values()):,}" for column in columns))
    console.print(table)

    table = plain_table("Five longest functions", "function", "lines")
    spans = (
        (lines, f"{path.removeprefix(top)}:{name}")
        for path, r in parsed.items()
        for name, lines in r["longest"]
    )
    for lines, name in sorted(spans, reverse=True)[:5]:
        table.add_row(name, f"{lines:,}")
    console.print(table)

    odd = sorted(path.removeprefix(top) for path in results.keys() - parsed.keys())
    if odd:
        some = ", ".join(odd[:3]) + (" …" if len(odd) > 3 else "")
        console.print(f"{len(odd)} files do not parse (most are meant not to): {some}", soft_wrap=True)
    for job in failed:
        console.print(f"[red]failed[/]: job {job.id}, {job.payload['path']}: {job.last_error}")
    cpu_s = sum(job.cpu_s or 0.0 for job in jobs)
    console.print(
        f"{len(jobs):,} jobs in {elapsed_s:.1f} s: {len(jobs) / elapsed_s:,.0f} jobs/s, "
        f"{cpu_s:.1f} s of CPU on {dispatcher.config.slots} workers"
    )
    store = os.path.relpath(STORE)
    console.print(f"\nEvery job is still there: {len(results):,} completed, {len(failed)} failed, in {store}")
    console.print(
        f"Look at them:  {shlex.quote(script('mpdispatch'))} jobs --store {shlex.quote(store)}", soft_wrap=True
    )
    return not failed


def script(name: str) -> str:
    """How to type this environment's script from here."""
    return os.path.relpath(Path(sys.executable).parent / name)


def main() -> int:
    DATA.mkdir(exist_ok=True)
    console = Console(highlight=False)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="measure only so many files")
    paths = library_files()[: parser.parse_args().limit]
    console.print(f"{len(paths):,} files of Python {sys.version.split()[0]}, one job each")
    jobs, elapsed_s = run(paths, console)
    return 0 if report(jobs, elapsed_s, console) else 1


if __name__ == "__main__":
    sys.exit(main())
