"""What a call gave, and whether two stores gave the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from mpdispatch.errors import DispatchError
from mpdispatch.model import CronEntry, Enqueued, Job, Page, PeerSupervisor
from mpdispatch.store.values import CommitResult, OtherOwners, Renewal

__all__ = ["Refusal", "answer_of", "compare"]


@dataclass(frozen=True)
class Refusal:
    """The error a call raised. Its wording is each store's own."""

    error: type[DispatchError]
    job_id: int | None


def answer_of(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return call(*args, **options)
    except DispatchError as error:
        return Refusal(type(error), getattr(error, "job_id", None))


def compare(call: str, found: Any, expected: Any) -> None:
    """Raise AssertionError unless they say the same: with the first item that differs, and what of it does."""
    if found == expected:
        return
    if isinstance(found, CommitResult) and isinstance(expected, CommitResult):
        # At least so many are held back, and if nothing was claimed, it is all the same from where on.
        assert all(1 <= most <= expected.held_back.get(queue, 0) for queue, most in found.held_back.items()), (
            f"{call}:\n  the store holds back {found.held_back}\n  the model {expected.held_back}"
        )
        # A store may wait for the disk where it need not.
        expected = msgspec.structs.replace(expected, is_synced=expected.is_synced or found.is_synced)
    ours, theirs = _without_what_is_left_open(found), _without_what_is_left_open(expected)
    if ours == theirs:
        return
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        ours, theirs = next(pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1])
    if isinstance(ours, Job) and isinstance(theirs, Job):
        call = f"{call}, job {ours.id}"
        ours, theirs = msgspec.structs.asdict(ours), msgspec.structs.asdict(theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        differing = [key for key in ours if ours[key] != theirs[key]]
        ours, theirs = ({key: each[key] for key in differing} for each in (ours, theirs))
    raise AssertionError(f"{call}:\n  the store says {ours}\n  the model says {theirs}")


def _without_what_is_left_open(answer: Any) -> Any:
    """The contract leaves open the order of starts, the text of a cursor, by what a store knows a renewal or a change
    of a cron entry, and whether it is a tuple or a list."""
    match answer:
        case CommitResult():
            fields = msgspec.structs.asdict(answer)
            held = {
                "held_back": sorted(answer.held_back),
                "held_from": answer.held_from if answer.claimed else None,
            }
            lists = {key: sorted(fields[key]) for key in ("rejected", "cancelled")}
            ended = sorted(answer.ended, key=lambda pair: pair[0].id)
            lists["enqueued"] = list(answer.enqueued)
            return {**fields, **lists, "claimed": list(answer.claimed), "ended": ended, **held}
        case Renewal():
            return sorted(answer.owned)
        case OtherOwners():
            return _without_what_is_left_open(answer.registered), sorted(answer.unregistered)
        case [PeerSupervisor(), *_]:
            return [msgspec.structs.replace(each, renewed=0) for each in answer]
        case CronEntry():
            return msgspec.structs.replace(answer, revision=0)
        case [CronEntry(), *_]:
            return [_without_what_is_left_open(each) for each in answer]
        case Enqueued():
            return answer.batch_id, list(answer.ids)
        case Page():
            return [*answer.items, "the end" if answer.next_cursor is None else "more"]
        case [(int(), int(), *_), *_] | [int(), *_]:
            return sorted(answer)
        case _:
            return answer
