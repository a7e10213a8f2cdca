"""Two stages: count the words of each file of a folder, then rank them all: `python pipeline.py FOLDER`."""

import re
import sys
from collections import Counter
from pathlib import Path

from rich.progress import track

from mpdispatch import Engine, current_engine

engine = Engine.open("pipeline.db", concurrency="auto")


@engine.job
def count(path: Path) -> dict[str, int]:
    return Counter(re.findall(r"[a-z]+", path.read_text(errors="replace").lower()))


@engine.job
def rank(batch: int) -> list[tuple[str, int]]:
    words: Counter[str] = Counter()
    for counted in current_engine().batches.get(batch).results():
        words.update(counted.result)
    return words.most_common(5)


if __name__ == "__main__":
    with engine.batch("words", on_success=rank) as batch:
        count.enqueue_many({"path": path.absolute()} for path in sorted(Path(sys.argv[1]).rglob("*.txt")))
    with engine.dispatcher:
        for job in track(engine.as_completed(batch), batch.name, batch.total):
            if job.last_error is not None:
                sys.exit(f"{job.payload['path']}: {job.last_error}")
        ranked = engine.wait(batch.status().callbacks["on_success"].job_id)
    print(*(f"{number:6} {word}" for word, number in ranked.result), sep="\n")
