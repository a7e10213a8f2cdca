"""Async handlers in real workers: one loop per worker, timeout and cancel, and the kill for those that go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

PROGRAM = """
import asyncio, json, time
from pathlib import Path
from mpdispatch import DispatchError, Engine, current_job

engine = Engine.open("jobs.db", concurrency=1)
loops = []

@engine.job
async def loop_number() -> int:
    loops.append(asyncio.get_running_loop())
    await asyncio.to_thread(time.sleep, 0.01)
    return len(set(map(id, loops)))

@engine.job
async def enqueues() -> int:
    return (await loop_number.enqueue_async()).id

@engine.job(timeout=0.3, max_retries=0)
async def late() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        Path("cleaned").touch()
        raise

@engine.job(timeout=0.3, max_retries=0)
async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            Path("swallowed").touch()

@engine.job(max_retries=0)
async def waits() -> None:
    Path("waiting").touch()
    await asyncio.Event().wait()

async def how_it_ended(job) -> str:
    try:
        return str((await engine.wait_async(job.id, timeout=30)).result)
    except DispatchError as error:
        return str(error)

async def main() -> dict:
    ended = {"loops": [await how_it_ended(await loop_number.enqueue_async()) for _ in range(3)]}
    inner = (await engine.wait_async((await enqueues.enqueue_async()).id, timeout=30)).result
    ended["inner"] = await how_it_ended(engine.get_job(inner))
    waiting = await waits.enqueue_async()
    while not Path("waiting").exists():
        await asyncio.sleep(0.01)
    engine.cancel(waiting.id)
    ended["waits"] = await how_it_ended(waiting)
    late_job, stubborn_job = await late.enqueue_async(), await stubborn.enqueue_async()
    ended["late"], ended["stubborn"] = await how_it_ended(late_job), await how_it_ended(stubborn_job)
    jobs = {"late": late_job, "stubborn": stubborn_job}
    ended["causes"] = {n: [(a.cause, a.signal) for a in engine.attempts(j.id)] for n, j in jobs.items()}
    return ended

if __name__ == "__main__":
    with engine.dispatcher:
        print(json.dumps(asyncio.run(main())))
"""


def test_async_handlers_in_real_workers_end_as_others_do(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert ended["loops"] == ["1"] * 3
    assert ended["inner"] == "1"
    assert "was cancelled" in ended["waits"]
    assert "ran longer than its timeout of 0.3 s" in ended["late"]
    assert "ran longer than its timeout of 0.3 s" in ended["stubborn"]
    # The one ended itself, the other had to be killed.
    assert ended["causes"] == {"late": [["timeout", None]], "stubborn": [["timeout", "SIGKILL"]]}
    assert (tmp_path / "cleaned").exists()
    assert (tmp_path / "swallowed").exists()
