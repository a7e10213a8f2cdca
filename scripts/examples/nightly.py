"""Checksums of a folder, every night: `mpdispatch supervise nightly:engine`; or at once: `python nightly.py`."""

import hashlib
from datetime import date
from pathlib import Path

from rich.progress import track

from mpdispatch import Engine

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
    with engine.batch(f"checksums of {date.today()}", on_end=report) as batch:
        checksum.enqueue_many({"path": path.absolute()} for path in sorted(Path("data").iterdir()))
    return batch.id


if __name__ == "__main__":
    with engine.dispatcher:
        batch = engine.batches.get(nightly.enqueue().wait())
        for job in track(engine.as_completed(batch), batch.name, batch.total):
            if job.last_error is not None:
                print(f"{job.payload['path']}: {job.last_error}")
        engine.wait(batch.status().callbacks["on_end"].job_id)
