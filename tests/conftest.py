"""What tests of several rooms share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from mpdispatch.store import SQLiteStore
from tests.kinds import kinds_of_test as pytest_generate_tests  # noqa: F401
from tests.kinds import store_kind as store_kind
from tests.servers.fixtures import new_place as new_place
from tests.servers.fixtures import new_server as new_server
from tests.servers.fixtures import postgres_schemas as postgres_schemas
from tests.servers.fixtures import postgres_server as postgres_server
from tests.servers.fixtures import redis_server as redis_server
from tests.servers.fixtures import valkey_server as valkey_server

# Two busy cores make any example slow now and then; a hang is caught by pytest's own timeout.
settings.register_profile("mpdispatch", deadline=None)
settings.load_profile("mpdispatch")

# Who runs the tests in the background (`&`, nohup) has them ignore these, and so would all they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Lets MPDISPATCH_FAILPOINTS act in the processes that tests start.
os.environ["TESTS_OF_MPDISPATCH"] = "1"

ROOT = str(Path(__file__).resolve().parents[1])
EMPTY: Mapping[str, str] = {}
Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Mp = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs the command line as its own process in an empty folder, without our variables in its environment."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}

    def run(*args: str, env: Mapping[str, str] = EMPTY, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mpdispatch", *args],
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": ROOT, **env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def mp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mp:
    """Runs the command line in this process, in the folder of the test: exit code, stdout, stderr."""
    from mpdispatch.cli.main import main  # few tests need it

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MPDISPATCH_")]:
        monkeypatch.delenv(name)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(args)
        found = capsys.readouterr()
        return int(ended.value.code or 0), found.out, found.err

    return run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    """The store that the command line finds in the folder of the test."""
    store = SQLiteStore(tmp_path / "mpdispatch.db")
    store.check(create=True)
    yield store
    store.close()
