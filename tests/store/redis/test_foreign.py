"""Programs in other languages enqueue with one call of a function; here with `FCALL`, as redis-cli sends it."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from mpdispatch.model import JobState
from mpdispatch.store.redis import RedisStore
from tests.servers.fixtures import Place

from .conftest import new_job


def fcall(server: Any, place: Place, *words: object) -> Any:
    return server.execute_command("FCALL", "mpdispatch_enqueue", 1, f"{{{place.name}}}", *words)


def test_a_job_is_stored_as_it_is_given(store: RedisStore, server: Any, place: Place) -> None:
    payload = '{"n": 12345678901234567890, "empty": [], "é": {}}'
    options = ("queue", "bulk", "priority", 5, "max_retries", 0, "delay_us", 10**7, "timeout_us", 1500000)
    job = store.get(fcall(server, place, "render", payload, *options))
    assert job.payload == {"n": 12345678901234567890, "empty": [], "é": {}}
    assert (job.queue, job.priority, job.max_retries, job.timeout) == ("bulk", 5, 0, 1.5)
    assert job.state is JobState.SCHEDULED


def test_it_is_as_one_of_our_own(store: RedisStore, server: Any, place: Place) -> None:
    theirs, ours = store.get(fcall(server, place, "render", '{"path":"a.pdf"}')), store.enqueue(new_job())
    assert (theirs.id, ours.id) == (1, 2)
    assert [getattr(theirs, each) for each in ("name", "queue", "payload", "state", "max_retries")] == [
        getattr(ours, each) for each in ("name", "queue", "payload", "state", "max_retries")
    ]


def test_a_key_that_is_in_use_gives_the_older_job(store: RedisStore, server: Any, place: Place) -> None:
    ids = [fcall(server, place, "render", "{}", "idempotency_key", "a") for _ in range(2)]
    assert ids == [1, 1]
    assert store.enqueue(new_job(idempotency_key="a")).created is False


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["render"], "give the name of a job"),
        (["render", "{}", "queue"], "give the name of a job"),
        (["render", "[1]"], "the payload must be a JSON object"),
        (["render", "{"], "the payload must be a JSON object"),
        (["", "{}"], "the name must not be empty"),
        (["render", "{}", "prio", "1"], "there is no option prio; there are batch_id, delay_us, expires_us"),
        (["render", "{}", "priority", "high"], "priority must be a whole number, not high"),
        (["render", "{}", "max_retries", "-1"], "max_retries must be 0 or more, not -1"),
        (["render", "{}", "batch_id", "7"], "batch_not_found"),
    ],
)
def test_bad_input_is_refused_by_its_name(
    store: RedisStore, server: Any, place: Place, words: list[str], why: str
) -> None:
    with pytest.raises(redis.ResponseError, match=why):
        fcall(server, place, *words)
    assert sum(store.counts().values()) == 0


def test_a_key_without_braces_and_a_place_without_a_store_are_refused(
    store: RedisStore, server: Any, place: Place
) -> None:
    with pytest.raises(redis.ResponseError, match="in braces"):
        server.execute_command("FCALL", "mpdispatch_enqueue", 1, place.name, "render", "{}")
    with pytest.raises(redis.ResponseError, match="run `mpdispatch migrate`"):
        server.execute_command("FCALL", "mpdispatch_enqueue", 1, f"{{{place.name}x}}", "render", "{}")
