"""The commands that look: workers, queues, explain, doctor, stats --watch, completion. In this process, but for jobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpdispatch import Engine, QueueConfig
from mpdispatch.clock import Instant, SystemClock
from mpdispatch.config import Config
from mpdispatch.engine import doctor as checkups
from mpdispatch.engine.client import JobClient
from mpdispatch.engine.explain import explain
from mpdispatch.host.processes import pid_namespace, process_id
from mpdispatch.ids import boot_id, host_name, machine_id
from mpdispatch.model import AlikeJobs, ClaimRequest, Finding, Level, NewJob, NewSupervisor
from mpdispatch.model.json import time_to_json
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite import health
from tests.clock import FakeClock

from .conftest import Mp
from .store.requests import request

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def now() -> Instant:
    return SystemClock().now()


def enqueue(store: SQLiteStore, name: str = "a", **options: Any) -> int:
    return store.enqueue(NewJob(name=name, payload=b"{}", **options)).id


def register(store: SQLiteStore, **changes: Any) -> int:
    """A supervisor of this very process: alive."""
    me = process_id()
    values = {
        "host": host_name(),
        "machine_id": machine_id(),
        "boot_id": boot_id(),
        "pid": me.pid,
        "pid_start": me.start,
        "pid_namespace": pid_namespace(),
        "queues": ("default",),
        "concurrency": 1,
        "app": "shop:engine",
        "version": "1",
    }
    supervisor_store = store.supervisor_store()
    owner = supervisor_store.register(NewSupervisor(**{**values, **changes}), 30_000_000)
    supervisor_store.close()
    return owner


def claim(store: SQLiteStore, owner: int, claim: ClaimRequest | None = None) -> None:
    supervisor_store = store.supervisor_store()
    supervisor_store.commit(owner, [], claim=claim or request())
    supervisor_store.close()


# ---------------------------------------------------------------- workers and queues


def test_workers_shows_what_each_worker_runs_and_since_when(tmp_path: Path, mp: Mp) -> None:
    (tmp_path / "busy_tasks.py").write_text(
        "import os, pathlib, time\n"
        "from mpdispatch import Engine\n"
        "engine = Engine.open('mpdispatch.db', concurrency=1)\n"
        "@engine.job\n"
        "def busy() -> None:\n"
        "    pathlib.Path('up').touch()\n"
        "    while not os.path.exists('go'): time.sleep(0.01)\n"
    )
    code = (
        "import busy_tasks as b, time, os\n"
        "b.busy.enqueue()\n"
        "with b.engine.dispatcher:\n"
        "    while not os.path.exists('up'): time.sleep(0.01)\n"
        "    print('up', flush=True); input()\n"
        "    open('go', 'w').close()\n"
    )
    root = str(Path(__file__).parents[1])
    host = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert host.stdout is not None
        assert host.stdout.readline() == "up\n"
        ((supervisor),) = json.loads(mp("workers", "--json")[1])
        assert (supervisor["state"], supervisor["pid"], supervisor["jobs"]) == ("alive", host.pid, 1)
        ((worker),) = supervisor["workers"]
        assert (worker["state"], worker["job_id"], worker["job_name"]) == ("running", 1, "busy")
        assert worker["since"] is not None
        table = mp("workers")[1]
        assert "running" in table
        assert str(worker["pid"]) in table
        assert f"it runs in worker {worker['pid']}" in mp("explain", "1")[1]
        ((again),) = Engine.open(tmp_path / "mpdispatch.db").workers()
        assert again.workers[0].pid == worker["pid"]
        host.communicate("\n", timeout=30)
    finally:
        host.kill()
        host.wait()
    assert json.loads(mp("workers", "--json")[1]) == []


def test_workers_tells_dead_supervisors_from_living_ones(store: SQLiteStore, mp: Mp) -> None:
    register(store)
    register(store, pid=2**22 + 1)
    register(store, boot_id="another")
    states = [each["state"] for each in json.loads(mp("workers", "--json")[1])]
    assert states == ["alive", "dead", "dead"]


def test_queues_lists_those_with_jobs_paused_or_polled(store: SQLiteStore, mp: Mp) -> None:
    enqueue(store, queue="bulk")
    mp("pause", "later")
    register(store, queues=("bulk", "idle"))
    queues = {each["name"]: each for each in json.loads(mp("queues", "--json")[1])}
    assert {name: (q["paused"], q["supervisors"]) for name, q in queues.items()} == {
        "bulk": (False, 1),
        "idle": (False, 1),
        "later": (True, 0),
    }
    assert queues["bulk"]["jobs"]["pending"] == 1
    assert set(queues["idle"]["jobs"].values()) == {0}
    assert "polled by" in mp("queues")[1]


# ---------------------------------------------------------------- explain


def codes(mp: Mp, job_id: int) -> list[str]:
    code, out, err = mp("explain", str(job_id), "--json")
    assert code == 0, err
    return [reason["code"] for reason in json.loads(out)["reasons"]]


def test_explain_names_everything_that_holds_a_job_back(store: SQLiteStore, mp: Mp) -> None:
    first = enqueue(store)
    assert codes(mp, first) == ["no_supervisor"]
    owner = register(store)
    assert codes(mp, first) == ["due"]
    assert codes(mp, enqueue(store, queue="other")) == ["not_polled"]
    later = enqueue(store, run_at_us=now().wall_us + 10**10)
    assert codes(mp, later) == ["later"]
    mp("pause", "default")
    assert codes(mp, first) == ["paused"]
    mp("resume", "default")
    claim(store, owner)
    second, third = enqueue(store), enqueue(store)
    assert codes(mp, second) == ["busy"]
    assert codes(mp, third) == ["busy", "turn"]
    assert codes(mp, first) == ["running"]  # no worker of it can be seen
    mp("cancel", str(third))
    assert codes(mp, third) == ["ended"]


def test_explain_names_the_queue_of_the_supervisor_to_start(store: SQLiteStore, mp: Mp) -> None:
    def remedy(job_id: int) -> str:
        (reason,) = json.loads(mp("explain", str(job_id), "--json")[1])["reasons"]
        assert reason["code"] == "no_supervisor"
        return str(reason["remedy"])

    assert remedy(enqueue(store, queue="bulk")) == "mpdispatch supervise APP -q bulk"
    assert remedy(enqueue(store)) == "mpdispatch supervise APP"


def test_explain_says_why_a_job_is_parked(store: SQLiteStore, mp: Mp) -> None:
    job_id = enqueue(store, "strange")
    claim(store, register(store), request(names=frozenset({"a"})))
    assert codes(mp, job_id) == ["parked"]
    out = mp("explain", str(job_id))[1]
    assert "no supervisor could run it" in out
    assert "▸" in out
    assert mp("explain", "99") == (1, "", "mpdispatch: job 99 not found\n")


def test_explain_knows_the_limits_of_the_file(store: SQLiteStore, tmp_path: Path, mp: Mp) -> None:
    owner = register(store, concurrency=5)
    enqueue(store)
    claim(store, owner)
    waiting = enqueue(store)
    assert codes(mp, waiting) == ["due"]
    (tmp_path / "app.yaml").write_text("dispatch: {queue_configs: [{name: default, max_concurrency: 1}]}\n")
    assert codes(mp, waiting) == ["queue_limit"]


def test_explain_says_when_a_rate_limited_queue_may_start_again(store: SQLiteStore) -> None:
    register(store)
    job_id = enqueue(store)
    connection = store._sessions.current().connection
    moment = now()
    connection.execute(
        "INSERT INTO mpdispatch_queues (name, tat_us, tat_boot_id) VALUES ('default', ?, ?)",
        (moment.boot_us + 60_000_000, boot_id()),
    )
    _, reasons = explain(store, job_id, now=moment)
    assert [reason.code for reason in reasons] == ["rate_limit"]
    limits = [QueueConfig("default", rate_limit=0.01)]
    _, reasons = explain(store, job_id, now=moment, queue_configs=limits)
    assert [reason.code for reason in reasons] == ["rate_limit"]
    assert "0.01 jobs/s" in reasons[0].text


def test_explain_of_a_job_whose_supervisor_died_says_so(store: SQLiteStore, mp: Mp) -> None:
    job_id = enqueue(store)
    claim(store, register(store, pid=2**22 + 1))
    assert codes(mp, job_id) == ["supervisor_gone"]
    assert "takes its jobs over" in mp("explain", str(job_id))[1]


# ---------------------------------------------------------------- doctor


def findings(mp: Mp, code: int) -> dict[str, Any]:
    done, out, err = mp("doctor", "--json")
    assert done == code, out + err
    return {each["check"]: each for each in json.loads(out)["findings"]}


def test_doctor_finds_nothing_to_do_in_a_fresh_store(store: SQLiteStore, mp: Mp) -> None:
    found = findings(mp, 0)
    checks = {"sqlite", "filesystem", "permissions", "wal", "disk", "content", "clock", "limits", "supervisors"}
    assert checks <= set(found)
    code, out, _ = mp("doctor")
    assert code == 0
    assert "quick_check finds nothing wrong" in out


def test_doctor_names_a_remedy_for_all_that_needs_doing(store: SQLiteStore, tmp_path: Path, mp: Mp) -> None:
    job_id = enqueue(store, "strange")
    claim(store, register(store, pid=2**22 + 1), request(names=frozenset({"a"})))
    enqueue(store, queue="nobody")
    mp("pause", "idle")
    (tmp_path / "mpdispatch.db").chmod(0o644)
    found = findings(mp, 1)
    for check in ("permissions", "supervisors", "queues", "parked"):
        assert found[check]["level"] in ("warning", "note"), check
        assert found[check]["remedy"], check
    assert found["permissions"]["remedy"].startswith("chmod 600 ")
    assert "strange" in found["parked"]["message"]
    assert job_id == 1
    assert "▸ chmod 600" in mp("doctor")[1]


def test_doctor_finds_a_damaged_file(store: SQLiteStore, tmp_path: Path, mp: Mp) -> None:
    for _ in range(50):
        store.enqueue_many(AlikeJobs(NewJob(name="x" * 150, payload=b""), [b"{}"] * 20))
    store._sessions.current().connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    store.close()
    path = tmp_path / "mpdispatch.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = b"\xaa" * 4096
    path.write_bytes(data)
    code, out, err = mp("doctor", "--json")
    if code == 65:  # so damaged that it cannot even be read
        assert "damaged" in err
    else:
        assert code == 1
        assert any(each["level"] == "error" for each in json.loads(out)["findings"])


def test_doctor_of_no_store_is_69_and_creates_nothing(tmp_path: Path, mp: Mp) -> None:
    code, _, err = mp("doctor")
    assert code == 69
    assert "mpdispatch migrate" in err
    assert list(tmp_path.iterdir()) == []


def test_doctor_finds_a_clock_that_was_set_back(store: SQLiteStore) -> None:
    enqueue(store)
    day_before = FakeClock(wall_us=now().wall_us - 86_400_000_000, boot_us=now().boot_us).now()
    found = {each.check: each for each in checkups.checkup(store, Config(), now=day_before)}
    assert found["clock"].level is Level.WARNING


def test_doctor_finds_too_few_open_files(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkups.resource, "getrlimit", lambda _: (100, 100))
    found = {each.check: each for each in checkups.checkup(store, Config(concurrency=50), now=now())}
    assert found["limits"].level is Level.WARNING
    assert "ulimit -n 564" in (found["limits"].remedy or "")


def test_doctor_finds_fleeting_folders_long_logs_and_full_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    path.touch(0o600)
    path.chmod(0o600)
    with open(f"{path}-wal", "wb") as wal:
        wal.truncate(200 << 20)
    monkeypatch.setattr(health, "filesystem_of", lambda _: "tmpfs")
    monkeypatch.setattr(health.os, "statvfs", lambda _: SimpleNamespace(f_bavail=256, f_frsize=4096))
    levels = {each.check: each.level for each in health.of_file(path, "process")}
    assert {name for name, level in levels.items() if level is Level.WARNING} == {"filesystem", "wal", "disk"}
    assert levels["durability"] is Level.NOTE


@pytest.mark.parametrize(
    ("kind", "is_told"), [("btrfs", True), ("zfs", True), ("overlay", True), ("ext4", False)]
)
def test_doctor_tells_where_a_full_disk_is_a_bus_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_told: bool
) -> None:
    path = tmp_path / "x.db"
    path.touch(0o600)
    monkeypatch.setattr(health, "filesystem_of", lambda _: kind)
    told = [each for each in health.of_file(path, "full") if "SIGBUS" in each.message]
    assert [each.level for each in told] == [Level.NOTE] * is_told
    assert all(kind in each.message and each.remedy for each in told)


@pytest.mark.parametrize("what", ["the folder", "the start journal"])
def test_doctor_finds_a_running_supervisor_whose_files_are_gone(
    store: SQLiteStore, tmp_path: Path, what: str
) -> None:
    side = tmp_path / "mpdispatch.db-mpd"
    owner = register(store)
    (side / f"marks.{owner}").touch()

    def found() -> list[Finding]:
        return [each for each in checkups.checkup(store, Config(), now=now()) if each.check == "side folder"]

    assert found() == []
    if what == "the folder":
        shutil.rmtree(side)
    else:
        (side / f"marks.{owner}").unlink()
    (finding,) = found()
    assert finding.level is Level.ERROR
    assert str(side) in finding.message
    assert finding.remedy is not None


def test_the_risk_of_an_old_sqlite_needs_doing_only_where_others_write_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health.sqlite3, "has_wal_reset_bug", lambda: True)
    assert [each.level for each in health.of_library(is_shared=False)] == [Level.NOTE]
    assert [each.level for each in health.of_library(is_shared=True)] == [Level.WARNING]
    monkeypatch.setattr(health.sqlite3, "has_wal_reset_bug", lambda: False)
    assert [each.level for each in health.of_library(is_shared=True)] == [Level.OK]


# ---------------------------------------------------------------- stats --watch


@pytest.mark.parametrize("watch", [["--watch", "50ms"], ["--watch", "0.05"]])
def test_stats_watch_writes_a_json_line_each_time(store: SQLiteStore, tmp_path: Path, watch: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mpdispatch", "stats", "--json", *watch],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        job_id = enqueue(store)
        store.cancel(job_id)
        while not (third := json.loads(process.stdout.readline()))["jobs"]["cancelled"]:
            continue
        process.send_signal(2)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (first["ended_per_s"], second["ended_per_s"]) == (None, 0.0)
    assert third["ended_per_s"] > 0
    assert (process.returncode, err) == (0, "")


def test_watch_takes_its_seconds_or_not(store: SQLiteStore, mp: Mp, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpdispatch.cli.commands import stats

    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(stats, "sleep", sleep)
    for args, seconds in (
        (["--watch"], 2),
        (["--watch", "--json"], 2),
        (["--watch", "7"], 7),
        (["--watch", "1m"], 60),
    ):
        assert mp("stats", *args)[0] == 0
        assert pauses.pop() == pytest.approx(seconds, abs=0.5)
    assert mp("stats", "--watch", "soon")[0] == 2


# ---------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(mp: Mp, shell: str) -> None:
    code, out, _ = mp("completion", shell)
    assert code == 0
    assert f"_MPDISPATCH_COMPLETE={shell}_complete" in out


def test_completion_of_another_shell_is_refused(mp: Mp) -> None:
    assert mp("completion", "tcsh")[0] == 2


@pytest.fixture
def complete(mp: Mp, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    def offered(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_MPDISPATCH_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        code, out, err = mp()
        assert (code, err) == (0, "")
        return [item.partition(",")[2] for item in out.splitlines() if item]

    return offered


def test_commands_ids_queues_and_names_are_completed(
    store: SQLiteStore, complete: Callable[[str], list[str]]
) -> None:
    enqueue(store, "render", queue="bulk")
    ended = enqueue(store, "mail")
    store.cancel(ended)
    assert complete("mpdispatch do") == ["doctor"]
    assert complete("mpdispatch dlq re") == ["replay"]
    assert complete("mpdispatch show ") == ["2", "1"]
    assert complete("mpdispatch retry ") == ["2"]
    assert complete("mpdispatch cancel ") == ["1"]
    assert complete("mpdispatch pause b") == ["bulk"]
    assert complete("mpdispatch jobs --queue ") == ["bulk", "default"]
    assert complete("mpdispatch jobs --name r") == ["render"]
    assert complete("mpdispatch run --queue b") == ["bulk"]
    assert complete("mpdispatch enqueue m") == ["mail"]
    assert complete("mpdispatch dlq show ") == []
    assert complete("mpdispatch jobs --state c") == ["completed", "cancelled"]


def test_cron_entries_are_completed(store: SQLiteStore, complete: Callable[[str], list[str]]) -> None:
    for name in ("nightly", "sweep"):
        JobClient.of(store).crons.add(name, "@daily", job="render")
    assert complete("mpdispatch cron disable ") == ["nightly", "sweep"]
    assert complete("mpdispatch cron preview n") == ["nightly"]
    enqueue(store)
    assert complete("mpdispatch explain ") == ["1", "nightly", "sweep"]


def test_completion_without_a_store_offers_nothing_and_creates_nothing(
    tmp_path: Path, complete: Callable[[str], list[str]]
) -> None:
    assert complete("mpdispatch show ") == []
    (tmp_path / "mpdispatch.db").write_bytes(b"no database" * 1000)
    assert complete("mpdispatch show ") == []


def test_completion_looks_into_the_store_the_line_names(
    tmp_path: Path, complete: Callable[[str], list[str]]
) -> None:
    other = SQLiteStore(tmp_path / "other.db")
    enqueue(other)
    other.close()
    assert complete("mpdispatch --store other.db show ") == ["1"]
    assert complete("mpdispatch show --store other.db ") == ["1"]


# ---------------------------------------------------------------- the file's queues


def test_queue_configs_of_the_file_limit_what_the_app_does_not(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "limited.py").write_text(
        "import time\n"
        "from mpdispatch import Dispatcher, Engine, QueueConfig, SQLiteStore\n"
        "dispatcher = Dispatcher(SQLiteStore('jobs.db'), concurrency=3, queues=['app', 'file'])\n"
        "engine = Engine.build(dispatcher, queue_configs=[QueueConfig('app', max_concurrency=2)])\n"
        "@engine.job\n"
        "def note(name: str) -> None:\n"
        "    with open(name, 'a', buffering=1) as file:\n"
        "        file.write('+'); file.flush(); time.sleep(0.3); file.write('-')\n"
    )
    limits = "[{name: app, max_concurrency: 1}, {name: file, max_concurrency: 1}]"
    (tmp_path / "app.yaml").write_text(f"dispatch: {{app: 'limited:engine', queue_configs: {limits}}}\n")
    for queue, count in (("file", 4), ("app", 8)):
        made = cli(
            "enqueue", "note", f"name={queue}", "--queue", queue, "--count", str(count), "-A", "limited:engine"
        )
        assert made.returncode == 0, made.stderr
    assert cli("supervise", "--drain").returncode == 0
    assert (tmp_path / "file").read_text() == "+-" * 4
    assert "++" in (tmp_path / "app").read_text(), "the app's own word counts for its queue"


# ---------------------------------------------------------------- jobs that wait for others


def explained(mp: Mp, job_id: int) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(mp("explain", str(job_id), "--json")[1])["reasons"]
    return found


def test_explain_names_what_a_job_waits_for(store: SQLiteStore, mp: Mp) -> None:
    owner = register(store)
    running = enqueue(store)
    claim(store, owner)
    failed, due = enqueue(store), enqueue(store)
    store.cancel(failed)
    job_id = enqueue(store, after=(running, failed, due), on_parent_failure="wait")
    (reason,) = explained(mp, job_id)
    text = f"it waits for 3 jobs: {failed} (cancelled: it waits until somebody retries it), {running} (running)"
    text += f", {due} (pending)"
    assert reason == {"code": "parents", "text": text, "remedy": f"mpdispatch retry {failed}"}
    out = mp("jobs")[1]
    assert "waiting for 3 jobs" in out


def test_explain_says_what_holds_a_parent_back(store: SQLiteStore, mp: Mp) -> None:
    register(store)
    unpolled, parked = enqueue(store, queue="bulk"), enqueue(store, run_at_us=now().wall_us + 10**10)
    middle = enqueue(store, after=(unpolled, parked))
    last = enqueue(store, after=(middle,))
    assert [(each["code"], each["text"].partition(", in ")[0]) for each in explained(mp, middle)] == [
        ("parents", f"it waits for 2 jobs: {unpolled} (pending), {parked} (scheduled)"),
        (
            "parent",
            f"job {unpolled} waits in turn: no running supervisor polls queue 'bulk'; they poll default",
        ),
        ("parent", f"job {parked} waits in turn: it is due at {time_to_json(store.get(parked).run_at)}"),
    ]
    assert [each["text"] for each in explained(mp, last)] == [
        f"it waits for 1 job: {middle} (pending)",
        f"job {middle} waits in turn: it is waiting for 2 jobs itself",
    ]


def test_explain_says_once_that_nobody_is_there(store: SQLiteStore, mp: Mp) -> None:
    parents = tuple(enqueue(store) for _ in range(9))
    job_id = enqueue(store, after=parents, run_at_us=now().wall_us + 10**10)
    first, later, nobody = explained(mp, job_id)
    assert first["text"] == (
        "it waits for 9 jobs: 1 (pending), 2 (pending), 3 (pending), 4 (pending), 5 (pending) and 4 more"
    )
    assert (later["code"], later["remedy"]) == ("later", None)  # `retry` would refuse it
    assert (nobody["code"], nobody["text"]) == ("no_supervisor", "no supervisor is running")
    mp("pause", "default")
    assert [each["code"] for each in explained(mp, job_id)] == ["parents", "later", "paused", "no_supervisor"]


def test_show_lists_parents_and_counts_dependents(store: SQLiteStore, mp: Mp) -> None:
    first, second = enqueue(store), enqueue(store)
    job_id = enqueue(store, after=(first, second), on_parent_failure="run")
    other = enqueue(store, after=(first,))
    store.cancel(first)
    assert "parents         1 (cancelled), 2 (pending)\n" in mp("show", str(job_id))[1]
    assert "dependents    2 (1 waiting)\n" in mp("show", str(first))[1]
    shown = json.loads(mp("show", str(job_id), "--json")[1])
    assert shown["parents"] == [{"id": first, "state": "cancelled"}, {"id": second, "state": "pending"}]
    assert [json.loads(mp("show", str(each), "--json")[1])["dependents"] for each in (first, job_id)] == [2, 0]
    assert "ParentFailedError: job 1, which it waited for, was cancelled" in mp("explain", str(other))[1]
    assert "parents" not in mp("show", str(second))[1]


def test_enqueue_and_run_take_parents(store: SQLiteStore, mp: Mp) -> None:
    def waits(*args: str) -> list[int]:
        code, out, err = mp(*args)
        assert code == 0, err
        return [each.id for each in store.parents(int(out.split()[-1]))]

    enqueue(store)
    assert waits("enqueue", "a", "--after", "1") == [1]
    assert waits("enqueue", "a", "--after", "1, 2", "--on-parent-failure", "wait", "--count", "3") == [1, 2]
    assert waits("run", "--after", "2", "--on-parent-failure", "run", "--", "true") == [2]
    assert mp("enqueue", "a", "--after", "99") == (
        2,
        "",
        "mpdispatch: after: there is no job 99 in this store (never enqueued, or pruned)\n",
    )
    for bad in ("x", "0", "-1", "1,", "1,,2", "9223372036854775808"):
        code, _, err = mp("enqueue", "a", f"--after={bad}")
        assert (code, "no id of a job" in err) == (2, True), err
    assert "one of" in mp("enqueue", "a", "--after", "1", "--on-parent-failure", "stop")[2]
    code, _, err = mp("enqueue", "a", "--on-parent-failure", "run")
    assert (code, "only together with after" in err) == (2, True)
    ids = ",".join(map(str, range(1, 102)))
    for _ in range(95):
        enqueue(store)
    assert "at most 100 jobs if many wait" in mp("enqueue", "a", "--count", "2", "--after", ids)[2]
