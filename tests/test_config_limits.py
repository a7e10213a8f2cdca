"""A configuration file can be large, endless or a bomb: told in one short line, at once, and 78."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from mpdispatch.configfile import effective
from mpdispatch.errors import ConfigError
from tests.conftest import ROOT, Cli

LETTERS = "abcdefghi"
BOMB = "a: &a [lol]\n" + "".join(
    f"{here}: &{here} [{','.join([f'*{before}'] * 9)}]\n" for before, here in pairwise(LETTERS)
)
MERGE_BOMB = "a: &a {k: 1}\n" + "".join(
    f"{here}: &{here} {{<<: [{','.join([f'*{before}'] * 9)}]}}\n" for before, here in pairwise(LETTERS)
)


def refused(folder: Path, text: str | bytes) -> str:
    """What is said of a file with this text, in a process that may use 10 s and half a GiB."""
    (folder / "app.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))

    done = subprocess.run(
        [sys.executable, "-m", "mpdispatch", "config", "check"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ROOT},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (78, ""), done.stderr[:2000]
    assert "Traceback" not in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 700
    return done.stderr


@pytest.mark.parametrize(
    "text",
    [
        f"{BOMB}dispatch: {{concurrency: *i}}\n",
        f"{BOMB}dispatch: {{queues: *i}}\n",
        f"{BOMB}dispatch:\n  nonsense: *i\n",
        f"{MERGE_BOMB}dispatch: *i\n",
        "dispatch: {queues: [" + "a," * 400_000 + "a]}\n",
    ],
    ids=["value", "list", "unknown key", "merge keys", "long list"],
)
def test_a_file_that_holds_too_much_is_refused_at_once(tmp_path: Path, text: str) -> None:
    assert "app.yaml:" in (said := refused(tmp_path, text))
    assert "holds more than 20,000 keys and values" in said


def test_a_large_file_is_refused_by_its_size(tmp_path: Path) -> None:
    text = "dispatch: {concurrency: 2}\nothers:\n" + "- some text of somebody else\n" * 900_000
    assert "larger than 1,048,576 bytes" in (said := refused(tmp_path, text))
    assert "--config" in said
    behind = "others:\n" + "- some text of somebody else\n" * 900_000 + "dispatch: {concurrency: 2}\n"
    assert refused(tmp_path, behind) == said


def test_a_large_file_of_another_program_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("- some text of somebody else\n" * 900_000)
    (tmp_path / "forge.yaml").write_text("dispatch: {store: ours.db}\n")
    settings = effective({}, env={})
    assert settings.others["store"] == "ours.db"


def test_what_has_no_end_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.yaml")
    for place in ("/dev/zero", "fifo.yaml", "/dev/null"):
        began = time.monotonic()
        with pytest.raises(ConfigError, match=f"{place}: is no regular file"):
            effective({}, env={}, config_file=place)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dispatch: &a {queues: [*a]}\n", r"app\.yaml:1: .*\*a is part of itself"),
        (f"dispatch: {{concurrency: {'1' * 5000}}}\n", "a number of 5,000 digits"),
        (f"dispatch: {{concurrency: {'1:' * 5000}1}}\n", "a number of 10,001 digits"),
        (f"dispatch: {{concurrency: [{'[[1, 2, 3], {a: b}], ' * 500}]}}\n", r"not \[\[\[1, 2, 3\], \{'a': 'b'\}\], .*…$"),
        (f"dispatch:\n  ? {'k' * 50_000}\n  : 1\n", "no such setting"),
        (f"dispatch: {{queues: [{'q' * 900}, {'q' * 900}]}}\n", "stands there twice"),
        ("dispatch: {" + "".join(f"k{n}: 1, " for n in range(9000)) + "}\n", "no such setting"),
        ("dispatch: {queues: [" + "1, " * 9000 + "]}\n", "and 8,980 more"),
    ],
)  # fmt: skip
def test_a_message_stays_short_whatever_a_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        effective({}, env={})
    assert len(raised.value.faults) <= 60
    assert max(len(str(fault)) for fault in raised.value.faults) < 2500


def test_an_alias_that_is_used_a_little_is_fine(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(
        "defaults: &d {concurrency: 3, queues: [a]}\nother: &q [x, y]\ndispatch: {<<: *d, queues: *q}\n"
    )
    found = cli("config", "check")
    assert found.returncode == 0, found.stderr
    assert "app.yaml: dispatch.queues" in found.stdout
