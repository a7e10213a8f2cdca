"""The scripts for working on the project, where they refuse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

TEST = Path(__file__).parents[1] / "scripts" / "test"


@pytest.mark.parametrize("version", ["3.10", "3.99"])
def test_a_python_that_is_too_old_or_not_there_is_named(version: str, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([TEST, "--python", version], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"No Python {version} here")
    assert f"pyenv install {version}" in done.stderr


def test_a_python_without_its_version_is_refused() -> None:
    done = subprocess.run([TEST, "--python"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--python takes a version" in done.stderr
