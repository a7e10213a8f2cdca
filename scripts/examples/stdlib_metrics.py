"""Measures every module of this Python's standard library: one durable job per file, on all your CPUs.

Run it with `scripts/quickstart`. Run it again and it does the same again; every run is a batch in the same store.
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import Any

from mpdispatch import Dispatcher, Engine, SQLiteStore

DATA = Path(__file__).resolve().parents[2] / "quickstart-data"
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


def complexity(function: ast.AST) -> int:
    """McCabe's number: ways through the code, 1 + one per branch."""
    nodes = list(ast.walk(function))
    both_ways = sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    return 1 + both_ways + sum(isinstance(node, BRANCHES) for node in nodes)


@engine.job(max_retries=0, timeout=120)
def measure(path: str) -> dict[str, Any]:
    """Lines, tokens, nodes and functions of one file. Real work: 1 ms to 2 s of CPU each."""
    source = Path(path).read_bytes()
    try:
        tree = ast.parse(source, filename=path)
        tokens = sum(1 for _ in tokenize.tokenize(io.BytesIO(source).readline))
    except (SyntaxError, ValueError) as error:
        # The test suite of Python holds files that are wrong on purpose. That is a finding, no failure.
        return {"unparsable": f"{type(error).__name__}: {error}"}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {f"{f.name}:{f.lineno}": (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    return {
        "lines": source.count(b"\n"),
        "tokens": tokens,
        "nodes": sum(1 for _ in ast.walk(tree)),
        "functions": len(functions),
        "complexity": sum(map(complexity, functions)),
        "biggest": max(sizes.items(), key=lambda item: item[1], default=("", 0)),
    }
