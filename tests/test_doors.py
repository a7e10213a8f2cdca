"""One job client behind every door: a hook is told the same of a new job, whether code, command line or HTTP made it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

APP = """
    import json
    from mpdispatch import Dispatcher, Engine, SQLiteStore, hooks

    class Recorder(hooks.Extension):
        def on_job_enqueued(self, event):
            kept = [event.name, event.queue, event.priority, event.idempotency_key, event.retried_from]
            with open("told.txt", "a") as file:
                file.write(json.dumps([*kept, event.batch_id is not None, event.is_committed]) + "\\n")

    engine = Engine.build(Dispatcher(store=SQLiteStore("jobs.db"), poll_interval=0.1), extensions=[Recorder()])

    @engine.job(queue="bulk", max_retries=0)
    def fail(number: int = 0) -> None:
        raise LookupError
"""
HTTP = """
    from mpdispatch.extension import DispatchExtension
    from starlette.testclient import TestClient
    from shop import Recorder, fail
    ext = DispatchExtension(store="jobs.db", supervise=False, extensions=[Recorder()])
    ext.engine.register(fail)
    with ext:
        client = TestClient(ext.asgi_app, base_url="http://localhost", client=("127.0.0.1", 1))
        body = {{"name": "fail", "payload": {{"number": 1}}, "priority": 3, "idempotency_key": "{key}"}}
        answer = client.post("/v1/jobs", json=body, headers={{"authorization": "Bearer " + ext.token}})
        assert answer.status_code == 201, answer.text
"""


class Shop:
    """A folder with an app, and a program or command line run in it."""

    def __init__(self, folder: Path, cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        self.folder, self._cli = folder, cli
        (folder / "shop.py").write_text(textwrap.dedent(APP))

    def cli(self, *args: str, **env: str) -> str:
        done = self._cli(*args, env=env)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def drain(self) -> None:
        """Run what is there; all of it fails."""
        assert self._cli("supervise", "shop:engine", "-q", "bulk", "--drain").returncode == 1

    def python(self, code: str) -> None:
        code = "from shop import engine\n" + textwrap.dedent(code)
        subprocess.run([sys.executable, "-c", code], cwd=self.folder, check=True, timeout=60)

    def heard(self) -> list[list[object]]:
        """What the hook was told since the last time this was asked."""
        told = self.folder / "told.txt"
        lines = told.read_text().splitlines() if told.exists() else []
        told.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def shop(tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]) -> Shop:
    return Shop(tmp_path, cli)


def test_a_hook_is_told_the_same_of_an_enqueue_by_every_door(shop: Shop) -> None:
    shop.python("engine.options(priority=3, idempotency_key='code').enqueue('fail', number=1)")
    shop.cli("enqueue", "fail", "number:=1", "--priority", "3", "--idempotency-key", "cli", "-A", "shop:engine")
    shop.python(HTTP.format(key="http"))
    heard = shop.heard()
    assert [told[3] for told in heard] == ["code", "cli", "http"]
    assert [told[:3] + told[4:] for told in heard] == [["fail", "bulk", 3, None, False, True]] * 3


def test_a_hook_is_told_the_same_of_many_by_every_door(shop: Shop) -> None:
    shop.python("engine.enqueue_many('fail', [{}, {}])")
    by_code = shop.heard()
    shop.cli("enqueue", "fail", "--count", "2", "-A", "shop:engine")
    assert shop.heard() == by_code == [["fail", "bulk", 0, None, None, True, True]] * 2


def test_a_hook_is_told_the_same_of_retry_and_replay_by_every_door(shop: Shop) -> None:
    shop.python("engine.enqueue_many('fail', [{}] * 6)")
    shop.drain()
    shop.heard()

    def of(job_id: int) -> list[object]:
        return ["fail", "bulk", 0, None, job_id, True, True]  # it takes the place of the old one in its batch

    shop.python("engine.retry(1); engine.dead_letters.replay(2)")
    assert shop.heard() == [of(1), of(2)]
    shop.cli("retry", "3", "-A", "shop:engine")
    shop.cli("dlq", "replay", "4", MPDISPATCH_APP="shop:engine", MPDISPATCH_STORE="jobs.db")
    assert shop.heard() == [of(3), of(4)]
    # Once more makes no job, so there is nothing to be told of.
    shop.cli("retry", "3", "-A", "shop:engine", "--store", "jobs.db")
    shop.python("engine.retry(1)")
    assert shop.heard() == []
    # No app is known: the help says that no hook is told.
    assert "runs again as job" in shop.cli("retry", "5", "--store", "jobs.db")
    assert "runs again as job" in shop.cli("dlq", "replay", "6", "--store", "jobs.db")
    assert shop.heard() == []


def test_a_program_that_is_put_into_the_store_is_told_of_if_the_app_is_known(shop: Shop) -> None:
    shop.cli("run", "-A", "shop:engine", "--", "true")
    shop.cli("run", "--store", "jobs.db", "--", "true")
    (told,) = shop.heard()
    assert told[4:] == [None, False, True]


@pytest.mark.parametrize("command", [["enqueue"], ["run"], ["retry"], ["dlq", "replay"]])
def test_help_says_when_hooks_are_told(shop: Shop, command: list[str]) -> None:
    words = " ".join(shop.cli(*command, "--help").split())
    assert "app's hooks are told" in words


def test_pausing_and_pruning_are_the_same_by_every_door(shop: Shop) -> None:
    shop.python("""
        jobs = [engine.enqueue("fail").id for _ in range(4)]
        engine.cancel(jobs[0])
        engine.pause_queue("bulk")
        assert engine.prune("0s") == 1
    """)
    assert [queue["paused"] for queue in json.loads(shop.cli("queues", "--json", "--store", "jobs.db"))] == [
        True
    ]
    shop.cli("cancel", "2", "--store", "jobs.db")
    assert json.loads(shop.cli("prune", "--older-than", "0s", "--json", "--store", "jobs.db")) == {"pruned": 1}
    shop.cli("resume", "bulk", "--store", "jobs.db")
    shop.python("assert not engine.queue_stats()[0].is_paused and sum(engine.counts().values()) == 2")
