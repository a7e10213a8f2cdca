"""The floors of the house, checked on the syntax trees: who may import whom, and what no module may do.

Floors (a module imports only lower ones, or its own room):

    9 cli web extension contrib testing      4 handlers events
    8 dispatcher engine configfile, the face 3 store host
    7 supervisor                             2 policy config hooks
    6 pool                                   1 model
    5 execution middleware                   0 errors ids clock cpus failpoints fstext private repeated sqlite3
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mpdispatch"

FLOORS = {
    **dict.fromkeys(
        ["errors", "ids", "clock", "cpus", "failpoints", "fstext", "private", "repeated", "sqlite3", "version"],
        0,
    ),
    "model": 1,
    **dict.fromkeys(["policy", "config", "hooks", "backoff"], 2),
    **dict.fromkeys(["store", "host"], 3),
    **dict.fromkeys(["handlers", "events"], 4),
    **dict.fromkeys(["execution", "middleware"], 5),
    "pool": 6,
    "supervisor": 7,
    **dict.fromkeys(["dispatcher", "engine", "configfile"], 8),
    **dict.fromkeys(["cli", "web", "extension", "contrib", "testing", "__main__"], 9),
}

# Rooms of one floor that know each other: (who, whom). Never both ways.
NEIGHBOURS = {
    ("failpoints", "errors"),  # a variable that arms none is told as every wrong setting is
    ("backoff", "policy"),  # the public name of policy.backoff
    ("repeated", "clock"),
    ("failpoints", "clock"),  # its pause
    ("errors", "clock"),  # Retry and Snooze take a delay as text
    ("config", "policy"),  # a Config is made of the values policy decides with
    ("middleware", "execution"),  # the public name of execution.middleware
    ("engine", "dispatcher"),  # an engine is built on a dispatcher
    ("extension", "web"),  # mounting an app means mounting its routes
    ("cli", "web"),  # `mpdispatch serve`
    ("__main__", "cli"),
}

# Rooms that do not know each other by name either: no import for types alone.
STRANGERS = {("store", "host"), ("host", "store")}

# (module, function) -> rooms its body may import when it is called.
LATE_IMPORTS = {
    ("mpdispatch.dispatcher", "start"): {"supervisor"},
    ("mpdispatch.dispatcher", "run"): {"supervisor"},
    ("mpdispatch.extension.extension", "asgi_app"): {"web"},  # which needs the `http` extra
    # The commonest client is a command without an app, in a line of a crontab.
    ("mpdispatch.cli.locate", "reference_of"): {"execution"},
    ("mpdispatch.cli.locate", "load_app"): {"execution"},
}

# A floor may have one module of a higher-than-needed room, as a protocol only.
_PROTOCOLS = {"mpdispatch.store.contract", "mpdispatch.store.values"}
PROTOCOLS_ONLY = {"handlers": _PROTOCOLS, "execution": _PROTOCOLS}

# Rooms within the room of stores: what each may import of the others. Its own values everybody may.
BACKENDS = {"sqlite", "postgres", "redis"}
OF_STORES = {"sqlite": {"sql"}, "postgres": {"sql"}, "redis": set[str](), "sql": set[str]()}
# Rooms that know the backends by name, to open one.
OPENERS = {"mpdispatch.store", "mpdispatch.store.open"}

# What a store asks inside a transaction: pure functions of the request and the facts.
POLICY_OF_STORES = {
    "mpdispatch.policy.admission",
    "mpdispatch.policy.batches",
    "mpdispatch.policy.expiry",
    "mpdispatch.policy.rate",
    "mpdispatch.policy.waits",
}

WARN_LINES, MOST_LINES = 300, 400
MOST_BRANCHES = 12
"""Of one function, each `and`, `or`, comprehension and conditional expression counted."""
BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case),
    *(ast.comprehension, ast.Assert),
)

FORBIDDEN_CALLS = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "yaml.load": "builds any object; use yaml.safe_load",
    "yaml.unsafe_load": "builds any object; use yaml.safe_load",
    "os.fork": "copies locks and SQLite handles",
}
# (module, call) that is right there, and why.
ALLOWED_CALLS = {
    ("mpdispatch.execution.loading", "exec"),  # runs the user's own main script again, as multiprocessing does
    ("mpdispatch.pool.zygote", "os.fork"),  # single-threaded, no SQLite: that is what it is for
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"}


class Import(NamedTuple):
    line: int
    target: str
    """Dotted, absolute; for `from x import y` both `x` and `x.y` are looked at."""
    function: str | None
    """The function it hides in, if it does."""
    is_typing_only: bool


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`mpdispatch.store.sqlite` -> `store`; the package itself is its own room, the face of floor 7."""
    return module.split(".")[1] if "." in module else ""


def floor_of(room: str) -> int | None:
    return 8 if room == "" else FLOORS.get(room)


def imports_of(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[Import]:
    def visit(node: ast.AST, function: str | None, typing_only: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(node.lineno, alias.name, function, typing_only)
            case ast.ImportFrom(module=base, names=names, level=level):
                if level:
                    above = module.split(".")[: len(module.split(".")) - level + is_package]
                    base = ".".join([*above, base] if base else above)
                for alias in names:
                    # `from mpdispatch import store` names a module, `from mpdispatch.store import X` may not.
                    target = f"{base}.{alias.name}" if base == "mpdispatch" or level else str(base)
                    yield Import(node.lineno, target, function, typing_only)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                function = function or name
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                typing_only = True
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function, typing_only)

    yield from visit(tree, None, False)


def import_faults(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    room = room_of(module)
    if floor_of(room) is None:
        yield f"{module}: room {room!r} stands on no floor; give it one in FLOORS"
        return
    for found in imports_of(tree, module, is_package=is_package):
        top = found.target.split(".")[0]
        if top in FORBIDDEN_MODULES:
            yield f"{module}:{found.line}: {top} loads code from data; messages are JSON"
        elif top == "mpdispatch" and (fault := first_party_fault(module, room, found)):
            yield f"{module}:{found.line}: {fault}"


def first_party_fault(module: str, room: str, found: Import) -> str | None:
    target_room = room_of(found.target)
    if target_room == room and room:
        return backend_fault(module, found) if room == "store" else None
    if found.function is not None:
        if target_room in LATE_IMPORTS.get((module, found.function), ()):
            return None
        return f"first-party import of {found.target} hides in {found.function}()"
    if room == "":
        return None  # The face shows what it likes; what it may *load* is tested in a subprocess below.
    floor, target_floor = floor_of(room), floor_of(target_room)
    assert floor is not None
    if target_floor is None:
        target_floor = 8  # `from mpdispatch import Engine`: a name of the face.
    if room in PROTOCOLS_ONLY and target_room == "store":
        if not any(found.target.startswith(allowed) for allowed in PROTOCOLS_ONLY[room]):
            return f"{room} knows a store only as the protocol in mpdispatch.store.contract"
    elif room == "store" and target_floor == 2 and found.target not in POLICY_OF_STORES:
        return f"of floor 2 a store knows the rules of its transactions, and nothing else ({found.target})"
    elif target_floor > floor:
        return f"floor {floor} imports {found.target} of floor {target_floor}"
    elif (
        target_floor == floor
        and (room, target_room) not in NEIGHBOURS
        and ((room, target_room) in STRANGERS or not found.is_typing_only)
    ):
        return f"{room} and {target_room} share floor {floor} and do not know each other"
    return None


def backend_fault(module: str, found: Import) -> str | None:
    """A backend and what the SQL stores share know no other backend; only what opens a store knows them."""
    here, there = (place.split(".")[2:3] for place in (module, found.target))
    if here == there or there[0:1] == [] or there[0] not in {*BACKENDS, "sql"}:
        return None
    if module in OPENERS or (here and there[0] in OF_STORES.get(here[0], ())):
        return None
    return f"{module} knows no {found.target}: only a backend knows store.sql, and only store.open a backend"


def dotted(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
        case _:
            return ""


def is_forbidden(module: str, call: str) -> bool:
    return call in FORBIDDEN_CALLS and (module, call) not in ALLOWED_CALLS


def deed_faults(tree: ast.AST, module: str) -> Iterator[str]:
    """What no module may do: run text, build objects from data, begin a transaction that may deadlock."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=func) if is_forbidden(module, name := dotted(func)):
                yield f"{module}:{node.lineno}: {name}() {FORBIDDEN_CALLS[name]}"
            case ast.Constant(value=str(text)) if begins_deferred(text):
                yield f"{module}:{node.lineno}: BEGIN only as BEGIN IMMEDIATE (others fail half-way)"


def begins_deferred(sql: str) -> bool:
    """Whether a string is (or holds a line that is) a BEGIN other than BEGIN IMMEDIATE.

    >>> begins_deferred("BEGIN"), begins_deferred("begin exclusive;"), begins_deferred("BEGIN IMMEDIATE")
    (True, True, False)
    >>> begins_deferred("Begin with the supervisor.")
    False
    """
    pattern = r"^\s*begin(\s+(deferred|exclusive|concurrent|immediate))?(\s+transaction)?\s*;?\s*$"
    found = re.search(pattern, sql, re.IGNORECASE | re.MULTILINE)
    return found is not None and (found[1] or "").strip().lower() != "immediate"


def faults_of(source: str, module: str, *, is_package: bool = False) -> list[str]:
    tree = ast.parse(source)
    faults = [*import_faults(tree, module, is_package=is_package), *deed_faults(tree, module)]
    lines = source.count("\n")
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    faults += [
        f"{module}: {function.name} has {branches} branches; {MOST_BRANCHES} is the most"
        for function in functions
        if (branches := branches_of(function)) > MOST_BRANCHES
    ]
    if lines > MOST_LINES:
        faults.append(f"{module}: {lines} lines; {MOST_LINES} is the most")
    return faults


def branches_of(function: ast.AST) -> int:
    """Cyclomatic complexity as radon counts it, with the functions inside."""
    count = 1
    for node in ast.walk(function):
        if isinstance(node, BRANCHES):
            count += 1 + len(getattr(node, "ifs", ()))
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
    return count


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_module_keeps_to_its_floor(path: Path) -> None:
    assert faults_of(path.read_text(), module_name(path), is_package=path.name == "__init__.py") == []


def test_long_files_are_named() -> None:
    long = {module_name(p): n for p in SOURCES if (n := p.read_text().count("\n")) > WARN_LINES}
    if long:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(f"look for the second idea in {long}", stacklevel=1)


# Not PostgreSQL's, where BEGIN begins the body of a function.
OF_SQLITE = [path for path in sorted(PACKAGE.rglob("*.sql")) if "postgres" not in path.parts]


@pytest.mark.parametrize("path", OF_SQLITE, ids=lambda p: p.name)
def test_sql_file_begins_no_deferred_transaction(path: Path) -> None:
    assert not begins_deferred(path.read_text())


MADE_UP = [
    ("mpdispatch.model.job", "from mpdispatch.store import open_store", "floor 1 imports mpdispatch.store"),
    ("mpdispatch.model.job", "from ..store.contract import Store", "floor 1 imports mpdispatch.store"),
    ("mpdispatch.policy.rate", "import mpdispatch.store.contract", "floor 2 imports"),
    (
        "mpdispatch.store.sqlite",
        "from mpdispatch import policy",
        "the rules of its transactions, and nothing else",
    ),
    ("mpdispatch.store.sqlite", "from mpdispatch.policy.decide import decide", "and nothing else"),
    ("mpdispatch.store.sqlite", "from mpdispatch.host.wake import FifoWake", "do not know each other"),
    ("mpdispatch.store.sql.reads", "from mpdispatch.store.sqlite.room import has_room", "knows no"),
    ("mpdispatch.store.sql.reads", "from mpdispatch.store.postgres import PostgresStore", "knows no"),
    ("mpdispatch.store.postgres.store", "from mpdispatch.store.sqlite.room import has_room", "knows no"),
    ("mpdispatch.store.redis.store", "from mpdispatch.store.sql.rows import moment", "knows no"),
    ("mpdispatch.store.contract", "from mpdispatch.store.sqlite import SQLiteStore", "knows no"),
    ("mpdispatch.host.wake", "from mpdispatch.store.contract import Store", "do not know each other"),
    (
        "mpdispatch.host.wake",
        "if TYPE_CHECKING:\n    from mpdispatch.store.contract import Store",
        "do not know each other",
    ),
    ("mpdispatch.execution.codec", "from mpdispatch.store.sqlite import SQLiteStore", "only as the protocol"),
    ("mpdispatch.execution.codec", "from mpdispatch.store import SQLiteStore", "only as the protocol"),
    ("mpdispatch.pool.worker", "def f():\n    from mpdispatch.model import Job", "hides in f()"),
    ("mpdispatch.dispatcher", "def start(): import mpdispatch.cli", "hides in start()"),
    ("mpdispatch.dispatcher", "from mpdispatch import engine", "do not know each other"),
    ("mpdispatch.supervisor.loop", "from mpdispatch import Engine", "floor 7 imports mpdispatch.Engine"),
    ("mpdispatch.attic", "x = 1", "no floor"),
    ("mpdispatch.pool.wire", "import pickle", "pickle"),
    ("mpdispatch.pool.wire", "from pickle import loads", "pickle"),
    ("mpdispatch.cli.run", "eval('1')", "runs text as code"),
    ("mpdispatch.cli.run", "import yaml\nyaml.load(f)", "yaml.safe_load"),
    ("mpdispatch.store.sqlite", "db.execute('BEGIN')", "BEGIN IMMEDIATE"),
    ("mpdispatch.store.sqlite", "db.execute('begin exclusive')", "BEGIN IMMEDIATE"),
    ("mpdispatch.pool.wire", "x = 1\n" * (MOST_LINES + 1), "the most"),
    ("mpdispatch.pool.wire", f"def f(x):\n    return {' or '.join('x' * (MOST_BRANCHES + 1))}", "the most"),
]


@pytest.mark.parametrize(("module", "source", "fault"), MADE_UP)
def test_checker_finds_the_fault_in_a_made_up_module(module: str, source: str, fault: str) -> None:
    assert any(fault in found for found in faults_of(source, module)), faults_of(source, module)


ALLOWED = [
    (
        "mpdispatch.dispatcher",
        "class D:\n    def start(self):\n        from mpdispatch.supervisor import Supervisor",
    ),
    ("mpdispatch.execution.codec", "from mpdispatch.store.contract import Store"),
    ("mpdispatch.store.sqlite", "from .contract import Store\ndb.execute('BEGIN IMMEDIATE')"),
    ("mpdispatch.store.sqlite", "from mpdispatch.policy.admission import plan"),
    ("mpdispatch.store.sqlite.store", "from mpdispatch.store.sql.store import SQLStore"),
    ("mpdispatch.store.open", "from mpdispatch.store.sqlite import SQLiteStore"),
    ("mpdispatch.ids", "def f():\n    import psutil"),
    ("mpdispatch", "from mpdispatch.engine import Engine"),
    ("mpdispatch.cli.jobs", "from mpdispatch import Engine"),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED)
def test_checker_passes_a_good_made_up_module(module: str, source: str) -> None:
    assert faults_of(source, module) == []


def loaded_by(statement: str) -> set[str]:
    """The modules a fresh interpreter has after this statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import mpdispatch", "from mpdispatch import *"])
def test_importing_the_package_loads_nothing_heavy_and_no_upper_floor(statement: str) -> None:
    loaded = loaded_by(statement)
    upper = {m for m in loaded if m.startswith("mpdispatch.") and (floor_of(room_of(m)) or 0) in (6, 7, 9)}
    assert upper <= {"mpdispatch.testing"}  # which loads what it names on first use
    assert loaded & {"sqlite_utils", "psutil", "rich", "yaml", "click"} == set()


def machine_paths(text: str) -> list[str]:
    """Absolute paths that exist only where they were written.

    >>> machine_paths("cd " + "/ho" + "me/ann/src; ls /usr/bin /tmp") == ["/ho" + "me/ann"]
    True
    """
    # In pieces, so that this file does not find itself.
    tops = "|".join(
        "/" + top for top in ("ho" + "me", "Us" + "ers", "ro" + "ot", "wo" + "rk", "op" + "t/wheels")
    )
    return re.findall(rf"(?<![\w.:~*-])(?:{tops})/[\w.-]+", text)


def committed_files() -> list[str]:
    """What is committed or would be; skips outside a checkout (an unpacked sdist)."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_committed_file_names_a_path_of_one_machine() -> None:
    texts = {name: (ROOT / name).read_bytes().decode("utf-8", "replace") for name in committed_files()}
    assert {name: found for name, text in texts.items() if (found := machine_paths(text))} == {}


def test_top_level_holds_only_what_belongs_there() -> None:
    tops = {name.split("/")[0] for name in committed_files()}
    belongs = {"pyproject.toml", "mpdispatch", "tests", "scripts", "README.md"}
    assert {top for top in tops if not top.startswith(".")} - belongs == set()


def test_every_script_may_be_run() -> None:
    scripts = [ROOT / ".ci" / "run", *(p for p in (ROOT / "scripts").iterdir() if p.is_file())]
    not_executable = [p.name for p in scripts if p.read_bytes()[:2] == b"#!" and not p.stat().st_mode & 0o100]
    assert not_executable == []
