"""The Redis store as a supervisor sees it: what `supervisor_contract.SupervisorStore` promises. One thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

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
from mpdispatch.store.lost_replies import UnreportedCommits
from mpdispatch.store.optional import FileCare, NoFileCare
from mpdispatch.store.redis import arguments, outputs, status
from mpdispatch.store.redis.crons import RedisCrons
from mpdispatch.store.redis.link import Link, Reply
from mpdispatch.store.redis.reasons import reason_of_pause
from mpdispatch.store.redis.records import claimed
from mpdispatch.store.redis.supervisor_calls import Lost, SupervisorCalls
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


class _Sent(NamedTuple):
    """What the last commit was sent with."""

    transitions: Sequence[Transition]
    claim: ClaimRequest | None


class RedisSupervisorStore:
    """Made by `RedisStore.supervisor_store()`. Creates nothing."""

    is_remote = True

    def __init__(self, link: Link, tell: Callable[..., None]) -> None:
        self._link, self._tell = link, tell
        self._calls = SupervisorCalls(link, self._settled)
        self._unreported, self._sent = UnreportedCommits(0), _Sent((), None)
        self.file_care: FileCare = NoFileCare()
        self.upkeep = RedisUpkeep(self._calls.write, link.now, tell)
        self.crons: CronDecisions = RedisCrons(self._calls.read, self._calls.write, tell)

    def _settled(self, lost: Lost, reply: Reply) -> None:
        if lost.call.name == "register":
            self._calls.write("unregister", owner=reply.said["owner"])  # its caller registers anew
        elif lost.call.name == "commit":
            if lost.values["owner"] == self._unreported.owner:
                result = self._result(reply, self._sent.claim, is_writing=True)
                self._unreported.add(self._sent.transitions, result)
        elif "now" in reply.said:
            self.upkeep.followed.add(reply)

    # -- the lease ------------------------------------------------------------------------------

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        self._link.warn_once()
        owner: int = self._calls.write("register", who=stored(who), ttl=ttl_us).said["owner"]
        return owner

    def unregister(self, owner: int) -> None:
        self._calls.write("unregister", owner=owner)

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        owned = _starts(self._calls.write("renew", owner=owner, ttl=ttl_us).said["owned"])
        # Of the others its next commit tells it.
        return Renewal(owned=tuple(each for each in owned if each not in self._unreported.claimed))

    def cancel_requests(self, owner: int) -> list[tuple[int, int]]:
        return _starts(self._calls.read("cancel_requests", owner=owner).said["starts"])

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
        if self._unreported.owner != owner:
            self._unreported = UnreportedCommits(
                owner
            )  # what an earlier registration has done concerns nobody any more
        self._calls.settle(_arguments(owner, transitions, reports, claim, skip_idle_check))
        unreported = self._unreported
        left, claims = (
            (unreported.left_of(transitions), unreported.claims(claim)) if unreported else (transitions, claim)
        )
        values = _arguments(owner, left, reports, claims, skip_idle_check)
        self._sent = _Sent(left, claims)
        result = self._result(self._calls.write("commit", **values), claims, is_writing=bool(left or reports))
        if unreported:
            result = unreported.reported(transitions, result)
        self._tell(
            work=any(each.state is JobState.PENDING for each in transitions),
            ends=bool(transitions or result.ended),
        )
        return result

    def _result(self, reply: Reply, claim: ClaimRequest | None, *, is_writing: bool) -> CommitResult:
        said, taken = reply.said, reply.said["taken"]
        self.upkeep.followed.add(reply, taken)
        followed = self.upkeep.followed.take()
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
            is_synced=is_writing or not taken,
            ended=followed.ended,
            enqueued=followed.callbacks,
        )

    # -- other supervisors ----------------------------------------------------------------------

    def peers(self, owner: int) -> OtherOwners:
        said = self._calls.read("supervisors", unknown=True).said
        return OtherOwners(
            [each for each in supervisors_of(said["all"]) if each.id != owner],
            [each for each in said["unknown"] if each != owner],
        )

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        reply = self._calls.read("jobs_of", owner=owner)
        return [claimed(each, reply.extra_at(place)) for place, each in enumerate(reply.records)]

    def take_over(self, dead: PeerSupervisor | int, transitions: Sequence[Transition]) -> bool:
        owner, renewed = (dead.id, dead.renewed) if isinstance(dead, PeerSupervisor) else (dead, None)
        values: dict[str, Any] = {
            "owner": owner,
            "transitions": [arguments.ended(each) for each in transitions],
        }
        reply = self._calls.write("take_over", **values, renewed=renewed)
        self.upkeep.followed.add(reply)
        is_done: bool = reply.said["is_done"]
        if is_done:
            is_any_due = any(each.state is JobState.PENDING for each in transitions)
            self._tell(work=is_any_due, ends=True)
        return is_done

    def outstanding(self, queues: Sequence[str]) -> Outstanding:
        said = self._calls.read("outstanding", queues=queues).said
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
