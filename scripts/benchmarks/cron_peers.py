"""Other schedulers beside us: one process with one schedule, each minute. Run by the Python of a throw-away environment.

python cron_peers.py apscheduler|celery|huey FILE   until it is ended; each job adds a line to FILE
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

LINES = Path(os.environ.setdefault("BENCH_LINES", sys.argv[-1]))


def mark() -> None:
    with LINES.open("a") as file:
        print(time.time(), file=file)


def apscheduler() -> None:
    from apscheduler.executors.pool import ProcessPoolExecutor
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.blocking import BlockingScheduler

    scheduler = BlockingScheduler(
        jobstores={"default": SQLAlchemyJobStore(url="sqlite:///jobs.db")},
        executors={"default": ProcessPoolExecutor(1)},
    )
    scheduler.add_job(mark, "cron", minute="*", id="mark", replace_existing=True)
    scheduler.start()


def celery() -> None:
    from celery import Celery
    from celery.schedules import crontab

    for folder in ("broker", "control"):
        Path(folder).mkdir(exist_ok=True)
    app = Celery("peers", broker="filesystem://")
    app.conf.broker_transport_options = {
        "data_folder_in": "broker",
        "data_folder_out": "broker",
        "control_folder": "control",
    }
    app.task(mark, name="mark")
    app.conf.beat_schedule = {"mark": {"task": "mark", "schedule": crontab()}}
    app.worker_main(["worker", "-B", "-c", "1", "--loglevel=ERROR", "-s", f"beat-{os.getpid()}"])


def huey() -> None:
    from huey import SqliteHuey, crontab

    queue = SqliteHuey(filename="huey.db", timeout=30)
    queue.periodic_task(crontab(), name="mark")(mark)
    queue.create_consumer(workers=1, worker_type="process").run()


if __name__ == "__main__":
    {"apscheduler": apscheduler, "celery": celery, "huey": huey}[sys.argv[1]]()
