"""Thumbnails of the pictures in a folder, one job each: `python thumbnails.py PICTURES THUMBNAILS`."""

import sys
from pathlib import Path

from PIL import Image
from rich.progress import track

from mpdispatch import Engine

engine = Engine.open("thumbnails.db", concurrency="auto")


@engine.job(max_retries=0, timeout="1m")
def thumbnail(source: Path, target: Path, size: int = 256) -> tuple[int, int]:
    with Image.open(source) as picture:
        picture.thumbnail((size, size))
        picture.convert("RGB").save(target, "JPEG")
        return picture.size


def main(pictures: str, thumbnails: str) -> int:
    Path(thumbnails).mkdir(exist_ok=True)
    with engine.batch("thumbnails") as batch:
        for source in sorted(Path(pictures).glob("*.[jp][pn]g")):
            thumbnail.enqueue(source.absolute(), Path(thumbnails, f"{source.stem}.jpg").absolute())
    with engine.dispatcher:
        for job in track(engine.as_completed(batch), batch.name, batch.total):
            if job.last_error is not None:
                print(f"{job.payload['source']}: {job.last_error}")
    return 1 if batch.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
