"""Batches of the Redis store: what `store.batches.BatchStore` promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpdispatch.errors import BatchNotFoundError
from mpdispatch.model import BATCH_EVENTS, BatchInfo, Callback, Job, JobState, Member, NewBatch, Page
from mpdispatch.store.filters import BatchFilter
from mpdispatch.store.redis import arguments
from mpdispatch.store.redis.link import Link
from mpdispatch.store.redis.pages import page
from mpdispatch.store.redis.records import job_of, member_of, moment, moment_or_none

_AT_ONCE = 200
"""Members looked at in a call that may enqueue each of them again."""


class RedisBatches:
    """A `BatchStore`."""

    def __init__(self, link: Link, tell: Callable[..., None]) -> None:
        self._link, self._tell = link, tell

    def open(self, new: NewBatch) -> BatchInfo:
        return _info(self._link.write("batch_open", create=True, batch=arguments.new_batch(new)).said["batch"])

    def close(self, batch_id: int) -> BatchInfo:
        _refuse_impossible(batch_id)
        found = _info(self._link.write("batch_close", id=batch_id).said["batch"])
        self._tell(work=True, ends=True)
        return found

    def get(self, batch_id: int) -> BatchInfo:
        _refuse_impossible(batch_id)
        return _info(self._link.read("batch_get", id=batch_id).said["batch"])

    def with_key(self, key: str) -> BatchInfo | None:
        found = self._link.read("batch_of_key", key=key).said["batch"]
        return _info(found) if found else None

    def page(self, where: BatchFilter, *, limit: int, cursor: str | None) -> Page[BatchInfo]:
        terms = arguments.where_batches(where)

        def step(before: int | None, most: int) -> tuple[list[BatchInfo], int | None]:
            said = self._link.read("batch_page", where=terms, before=before, limit=most).said
            return [_info(each) for each in said["batches"]], said["before"] or None

        return page(step, limit=limit, cursor=cursor)

    def cancel(self, batch_id: int) -> BatchInfo:
        _refuse_impossible(batch_id)
        is_first = True
        while self._link.write("batch_cancel", id=batch_id, begins=is_first).said["has_more"]:
            is_first = False
        self._tell(work=True, ends=True)
        return self.get(batch_id)

    def retry(self, batch_id: int, *, on_retry: Callable[[Sequence[Job]], object] | None = None) -> int:
        _refuse_impossible(batch_id)
        total, after = 0, 0
        last = self._link.read("batch_last", id=batch_id).said["last"]  # not those made meanwhile
        while after is not False:
            reply = self._link.write("batch_retry", id=batch_id, after=after, last=last, most=_AT_ONCE)
            jobs = [job_of(each, reply.extra_at(place)) for place, each in enumerate(reply.records)]
            if jobs and on_retry is not None:
                on_retry(jobs)
            total += len(jobs)
            after = reply.said["after"]
        self._tell(work=True)
        return total

    def members(self, batch_id: int, *, after_id: int, limit: int) -> list[Member]:
        after_id = max(after_id, 0)
        reply = self._link.read("batch_members", id=batch_id, after=after_id, limit=limit)
        return [member_of(each, reply.extra_at(place)) for place, each in enumerate(reply.records)]


def _refuse_impossible(batch_id: int) -> None:
    if not 0 < batch_id <= arguments.MOST:
        raise BatchNotFoundError(batch_id)


def _info(said: dict[str, Any]) -> BatchInfo:
    callbacks = {event: Callback(name, job_id or None) for event, name, job_id in said.get("callbacks") or ()}
    return BatchInfo(
        id=said["id"],
        name=said["name"],
        created_at=moment(said["made"]),
        started_at=moment_or_none(said.get("began")),
        ended_at=moment_or_none(said.get("done")),
        is_open=said["open"],
        cancelled_at=moment_or_none(said.get("stop")),
        total=said["total"],
        counts={state: said["n"][state.value] for state in JobState},
        callbacks={event: callbacks[event] for event in BATCH_EVENTS if event in callbacks},
        max_fails=said.get("max"),
        max_fail_share=said.get("share"),
        read_at=moment(said["now"]),
    )
