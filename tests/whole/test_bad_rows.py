"""Rows that somebody changed by hand: each costs its own job, and no more; who looks at it sees why."""

from __future__ import annotations

import pytest

from tests.whole.harness import Place

PAYLOADS = {
    "junk": "'junk'",
    "null": "NULL",
    "empty": "''",
    "no utf-8": "CAST(x'fffe7b7d' AS TEXT)",
    "text that is no utf-8": """CAST(x'7b226e223a22ff227d' AS TEXT)""",
    "a blob": "x'00ff'",
    "nan": "'NaN'",
    "a number": "1.5",
    "deep": """'{"n":' || replace(hex(zeroblob(50000)), '0', '[') || '}'""",
    "deep objects": """replace(hex(zeroblob(50000)), '0', '{"n":')""",
    "another job": """'{}],["run",99,1,1,"plain","default",0,0,3,null,null,null,{}'""",
}


@pytest.mark.parametrize("is_command", [False, True], ids=["handler", "command"])
def test_jobs_with_broken_payloads_are_dead_letters_and_all_others_run(place: Place, is_command: bool) -> None:
    good = [place.app.plain.options(max_retries=0).enqueue(n=n).id for n in range(30)]
    bad = {}
    for kind, value in PAYLOADS.items():
        if is_command:
            done = place.cli("run", "--store", "jobs.db", "--", "true")
            bad[kind] = int(done.stdout)
        else:
            bad[kind] = place.app.plain.enqueue(n=1).id
        place.sql(f"UPDATE mpdispatch_jobs SET payload = {value} WHERE id = {bad[kind]}", "SELECT 1")
    good += [place.app.plain.options(max_retries=0).enqueue(n=n).id for n in range(30)]
    supervisor = place.supervise("--drain", "--allow-commands", "-c", "2")
    assert supervisor.ended() == 1, "there are failed ones"
    assert {str(place.job(job_id).state) for job_id in good} == {"completed"}
    for kind, job_id in bad.items():
        ((state, error),) = place.sql(
            "SELECT j.state, a.error FROM mpdispatch_jobs AS j JOIN mpdispatch_attempts AS a ON a.job_id = j.id"
            f" WHERE j.id = {job_id}"
        )
        assert state == "failed", (kind, state)
        assert "PayloadError" in error, (kind, error)
        if kind != "text that is no utf-8":
            assert f"the payload of job {job_id} in the store" in error, (kind, error)
    rows = place.sql("SELECT job_id, count(*) FROM mpdispatch_attempts GROUP BY 1 HAVING count(*) > 1")
    assert rows == [], "none is tried again: that gives the same"
    assert "ended before" not in supervisor.err
    assert "Traceback (most recent call last)" not in supervisor.err

    for job_id in bad.values():
        for command in (["show"], ["explain"], ["dlq", "replay"]):
            done = place.cli(*command, str(job_id), "--store", "jobs.db")
            assert "Traceback" not in done.stdout + done.stderr, (command, job_id, done.stderr[-2000:])
    # What was replayed is as broken as before.
    assert place.drain("--allow-commands") == 1
    assert place.unended() == 0
