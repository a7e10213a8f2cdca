"""The examples do what they say, as a stranger runs them: as programs, with real workers."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "scripts" / "examples"
SHORT = ("thumbnails.py", "sweep.py", "pipeline.py", "nightly.py")


def run(folder: Path, name: str, *args: str) -> tuple[int, str]:
    """Its exit status, and what it printed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        cwd=folder,
        env={**clean, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(800, 600), (300, 900), (10, 10)]):
        Image.new("RGBA", size, (number, 0, 0)).save(folder / f"{number}.png")
    return folder


def test_thumbnails_are_made_and_a_broken_picture_is_named(tmp_path: Path, pictures: Path) -> None:
    assert run(tmp_path, "thumbnails.py", "pictures", "small")[0] == 0
    sizes = {}
    for path in (tmp_path / "small").iterdir():
        with Image.open(path) as picture:
            sizes[path.name] = picture.size
    assert sizes == {"0.jpg": (256, 192), "1.jpg": (85, 256), "2.jpg": (10, 10)}
    (pictures / "broken.jpg").write_text("no picture")
    code, printed = run(tmp_path, "thumbnails.py", "pictures", "small")
    assert code == 1
    assert f"{pictures / 'broken.jpg'}: PIL.UnidentifiedImageError" in printed


def test_an_empty_folder_makes_no_thumbnails(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    assert run(tmp_path, "thumbnails.py", "pictures", "small")[0] == 0


def test_a_sweep_becomes_a_table(tmp_path: Path) -> None:
    code, printed = run(tmp_path, "sweep.py")
    rows = [line.split()[1::2] for line in printed.splitlines() if line.startswith("│")]
    assert code == 0
    assert [row[0] for row in rows] == ["0.2", "0.3", "0.4", "0.5"]
    assert rows[0] == ["0.2", "40.4%", "15.4%", "0.1%"]


def test_a_pipeline_ranks_what_its_first_stage_has_counted(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(20):
        (texts / f"{number}.txt").write_text("To be, or not to be" + " that" * number)
    code, printed = run(tmp_path, "pipeline.py", "texts")
    assert code == 0
    ranked = [line.split() for line in printed.splitlines()[-5:]]
    assert ranked == sorted(ranked, key=lambda row: -int(row[0]))
    counts = {word: int(number) for number, word in ranked}
    assert counts == {"that": 190, "be": 40, "to": 40, "not": 20, "or": 20}


def test_a_nightly_batch_runs_at_once_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a", "b c"):
        (data / name).write_bytes(name.encode())
    for _ in range(2):
        assert run(tmp_path, "nightly.py")[0] == 0
    expected = [f"{hashlib.sha256(path.name.encode()).hexdigest()}  {path}" for path in sorted(data.iterdir())]
    assert (tmp_path / "checksums.txt").read_text().splitlines() == expected


def test_a_bar_moves_on_a_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "sweep.py")],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdout=slave,
        stderr=slave,
        stdin=slave,
    ) as program:
        os.close(slave)
        seen = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the program has closed its end
                break
            if not piece:
                break
            seen += piece
    os.close(master)
    assert program.returncode == 0
    percentages = {part.split()[-1] for part in seen.decode().split("%")[:-1] if part.split()}
    assert any(each.endswith("100") for each in percentages), seen
    assert len(percentages) >= 2, seen


@pytest.mark.parametrize("name", SHORT)
def test_an_example_is_read_in_a_minute(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    assert text.count("\n") <= 40
    assert "track(" in text
    assert name in text or name == "sweep.py"


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SHORT, "stdlib_metrics.py"}
