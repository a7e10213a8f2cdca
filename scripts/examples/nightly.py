"""Checksums of a folder, every night: `mpdispatch supervise nightly:engine`; or at once: `python nightly.py`."""

import hashlib
import time
from pathlib import Path

from rich.progress import Progress

from mpdispatch import Engine, current_job

engine = Engine.open("nightly.db", concurrency="auto")


@engine.job
def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@engine.job
def report(batch: int) -> int:
    rows = (f"{each.result}  {each.arguments['path']}\n" for each in engine.batches.get(batch).results())
    return Path("checksums.txt").write_text("".join(rows))


@engine.cron("30 2 * * *", overlap="skip", late_after="25h")
@engine.job(expires="4h")
def nightly() -> int:
    with engine.batch(f"checksums of {current_job().slot:%F}", on_end=report) as batch:
        checksum.enqueue_many({"path": path.absolute()} for path in sorted(Path("data").iterdir()))
    return batch.id


if __name__ == "__main__":
    with engine.dispatcher, Progress() as bar:
        batch = engine.batches.get(engine.wait(engine.crons.trigger("nightly").id).result)
        task = bar.add_task(batch.name, total=batch.total)
        while not bar.finished:
            bar.update(task, completed=batch.status().done)
            time.sleep(0.05)
        engine.wait(batch.status().callbacks["on_end"].job_id)
