"""Whatever a handler does, its job ends in the same way inline and in a drain: as the rules of retries say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch import Job, testing
from tests.testing import app
from tests.testing.app import engine

STEPS = st.lists(st.sampled_from(["fail", "retry", "snooze", "cancel"]), max_size=6)
SCRIPTS = st.lists(st.tuples(STEPS, st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=5)
"""(what each start does, retries, hours until it is due) of some jobs."""


def expected(steps: list[str], max_retries: int) -> tuple[str, int, int]:
    """State, attempts spent, starts."""
    attempt = 0
    for start, step in enumerate(steps, 1):
        attempt += step != "snooze"
        if step == "cancel":
            return "cancelled", attempt, start
        if step != "snooze" and attempt > max_retries:
            return "failed", attempt, start
    return "completed", attempt + 1, len(steps) + 1


def enqueue(steps: list[str], max_retries: int, hours: int) -> Job:
    return app.scripted.options(max_retries=max_retries, delay=3600 * hours or None).enqueue(steps)


def facts(job: Job) -> tuple[str, int, int]:
    return str(job.state), job.attempt, job.starts


@settings(max_examples=40)
@given(SCRIPTS)
def test_inline_and_drained_jobs_end_as_the_rules_say(scripts: list[tuple[list[str], int, int]]) -> None:
    wanted = [expected(steps, max_retries) for steps, max_retries, _ in scripts]
    with testing.inline(engine, raises=False):
        inline = [facts(enqueue(*script)) for script in scripts]
        letters = engine.dead_letters.count()
    with testing.isolated(engine):
        ids = [enqueue(*script).id for script in scripts]
        ended = {job.id: facts(job) for job in testing.drain(engine, advance="1d")}
        assert engine.dead_letters.count() == letters == sum(state == "failed" for state, _, _ in wanted)
    assert inline == wanted
    assert [ended[job_id] for job_id in ids] == wanted
