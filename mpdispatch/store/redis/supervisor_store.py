"""The Redis store as a supervisor sees it: what `supervisor_contract.SupervisorStore` promises. One thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mpdispatch.model import (
    ClaimedJob,
    ClaimRequest,
    JobState,
    NewSupervisor,
    PeerSupervisor,
    Transition,
)
from mpdispatch.policy.admission import refusal_text, refusing_app
from mpdispatch.store.crons import CronDecisions
from mpdispatch.store.optional import FileCare, NoFileCare
from mpdispatch.store.redis import arguments, outputs, status
from mpdispatch.store.redis.crons import RedisCrons
from mpdispatch.store.redis.link import Caller, Link, Reply
from mpdispatch.store.redis.reasons import reason_of_pause
from mpdispatch.store.redis.records import claimed
from mpdispatch.store.redis.supervisors import stored, supervisors_of
from mpdispatch.store.redis.upkeep import RedisUpkeep
from mpdispatch.store.values import (
    NO_REPORTS,
    CommitResult,
    LeftBehind,
    OtherOwners,
    Outstanding,
    Renewal,
    Reports,
)


class RedisSupervisorStore:
    """Made by `RedisStore.supervisor_store()`. Creates nothing."""

    is_remote = True

    def __init__(self, link: Link, tell: Callable[..., None]) -> None:
        self._link, self._tell, self._caller = link, tell, Caller()
        self.file_care: FileCare = NoFileCare()
        self.upkeep = RedisUpkeep(self._write, link.now, tell)
        self.crons: CronDecisions = RedisCrons(self._read, self._write, tell)

    def _read(self, name: str, /, **values: Any) -> Reply:
        self._link.open(create=False)
        return self._link.run(self._link.call(name, values, ()), patience_s=0)

    def _write(self, name: str, /, *, create: bool = False, **values: Any) -> Reply:
        self._link.open(create=create)
        return self._link.run(self._link.call(name, values, self._caller.next()), patience_s=0)

    # -- the lease ------------------------------------------------------------------------------

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        owner: int = self._write("register", who=stored(who), ttl=ttl_us).said["owner"]
        return owner

    def unregister(self, owner: int) -> None:
        self._write("unregister", owner=owner)

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        return Renewal(owned=tuple(_starts(self._write("renew", owner=owner, ttl=ttl_us).said["owned"])))

    def cancel_requests(self, owner: int) -> list[tuple[int, int]]:
        return _starts(self._read("cancel_requests", owner=owner).said["starts"])

    # -- commit ---------------------------------------------------------------------------------

    def commit(
        self,
        owner: int,
        transitions: Sequence[Transition],
        reports: Reports = NO_REPORTS,
        *,
        claim: ClaimRequest | None = None,
        skip_idle_check: bool = False,
    ) -> CommitResult:
        reply = self._write("commit", **_arguments(owner, transitions, reports, claim, skip_idle_check))
        said, taken = reply.said, reply.said["taken"]
        self.upkeep.followed.add(reply, taken)
        followed = self.upkeep.followed.take()
        self._tell(
            work=any(each.state is JobState.PENDING for each in transitions),
            ends=bool(transitions or followed.ended),
        )
        held_from = said.get("held_from")
        return CommitResult(
            claimed=[claimed(reply.records[place], reply.extra_at(place)) for place in range(taken)],
            rejected=_starts(said.get("rejected", ())),
            cancelled=_starts(said.get("cancelled", ())),
            parked=_parked(said.get("parked", {}), claim),
            has_more=said["has_more"],
            due_in_us=said.get("due_in"),
            token_in_us=said.get("token_in"),
            held_back=said.get("held", {}),
            held_from=None if held_from is None else tuple(held_from),
            is_synced=bool(transitions or reports) or not taken,
            ended=followed.ended,
            enqueued=followed.callbacks,
        )

    # -- other supervisors ----------------------------------------------------------------------

    def peers(self, owner: int) -> OtherOwners:
        said = self._read("supervisors", unknown=True).said
        return OtherOwners(
            [each for each in supervisors_of(said["all"]) if each.id != owner],
            [each for each in said["unknown"] if each != owner],
        )

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        reply = self._read("jobs_of", owner=owner)
        return [claimed(each, reply.extra_at(place)) for place, each in enumerate(reply.records)]

    def take_over(self, dead: PeerSupervisor | int, transitions: Sequence[Transition]) -> bool:
        owner, renewed = (dead.id, dead.renewed) if isinstance(dead, PeerSupervisor) else (dead, None)
        values: dict[str, Any] = {
            "owner": owner,
            "transitions": [arguments.ended(each) for each in transitions],
        }
        reply = self._write("take_over", **values, renewed=renewed)
        self.upkeep.followed.add(reply)
        is_done: bool = reply.said["is_done"]
        if is_done:
            is_any_due = any(each.state is JobState.PENDING for each in transitions)
            self._tell(work=is_any_due, ends=True)
        return is_done

    def outstanding(self, queues: Sequence[str]) -> Outstanding:
        said = self._read("outstanding", queues=queues).said
        left = None
        if "scheduled" in said:
            held = status.held(said["parked"], said["waiting"])
            held |= {reason_of_pause(queue): count for queue, count in said["paused"]}
            left = LeftBehind(held, said["scheduled"])
        return Outstanding(said["pending"], said["running"], said["retrying"], left)

    def close(self) -> None:
        """The connections are the store's."""


def _arguments(
    owner: int,
    transitions: Sequence[Transition],
    reports: Reports,
    claim: ClaimRequest | None,
    skips_look: bool,
) -> dict[str, Any]:
    """Those of a commit; what is empty is left out."""
    values: dict[str, Any] = {"owner": owner, "is_writing": bool(transitions or reports)}
    if transitions:
        values["transitions"] = [arguments.ended(each) for each in transitions]
    if reports.progress:
        progress = [(each.job_id, each.starts, arguments.text_of(each.data)) for each in reports.progress]
        values["progress"] = progress
    if reports.outputs:
        values["outputs"] = [outputs.stored(each) for each in reports.outputs]
    if claim is not None:
        values["claim"] = arguments.claim(claim, skips_look=skips_look)
    return values


def _parked(names: Mapping[str, int], claim: ClaimRequest | None) -> dict[str, int]:
    """Jobs parked by this claim, by reason; `names`: by name."""
    found = dict[str, int]()
    if names and claim is not None:
        app = refusing_app(claim)
        for name, count in names.items():
            reason = refusal_text(name, app)
            found[reason] = found.get(reason, 0) + count
    return found


def _starts(found: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    return [(each[0], each[1]) for each in found]
