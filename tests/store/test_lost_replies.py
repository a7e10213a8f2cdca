"""What a commit whose answer was lost has done is told once, and recorded once."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.model import Cause, ClaimedJob, ClaimRequest, JobState, Transition
from mpdispatch.store.lost_replies import UnreportedCommits
from mpdispatch.store.values import CommitResult

CLAIM = ClaimRequest(queues=("default",), slots=10)


def outcome(job_id: int) -> Transition:
    return Transition(
        job_id=job_id,
        starts=1,
        state=JobState.COMPLETED,
        attempt=1,
        cause=Cause.COMPLETED,
        at_us=1,
        claim_attempt=1,
    )


class Server:
    """Records outcomes, refuses those of odd jobs, and gives one new job per claim."""

    def __init__(self) -> None:
        self.recorded, self.refused, self.claimed = list[int](), list[int](), 0

    def commit(self, transitions: Sequence[Transition], claim: ClaimRequest | None) -> CommitResult:
        ids = [each.job_id for each in transitions]
        self.recorded += [each for each in ids if each % 2 == 0]
        self.refused += [each for each in ids if each % 2]
        claimed = []
        if claim is not None:
            self.claimed += 1
            claimed = [ClaimedJob(self.claimed, 1, 1, "noop", "default", -self.claimed, 0, 3, None, None)]
        return CommitResult(
            claimed=claimed,
            rejected=[(each, 1) for each in ids if each % 2],
            parked={"unknown": 1},
            has_more=False,
        )


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from(["answered", "lost", "not begun"])),
        max_size=12,
    )
)
def test_each_outcome_is_recorded_once_and_each_claim_told_once(
    rounds: list[tuple[int, int, str]],
) -> None:
    """`rounds`: how many outcomes are new, how many of all that are pending are passed, and what becomes of it."""
    server, unreported = Server(), UnreportedCommits(1)
    pending, told_rejected, told_claimed = list[int](), list[int](), list[int]()
    made = parked = 0
    for new, most, fate in [*rounds, (0, 99, "answered"), (0, 99, "answered")]:
        pending += range(made, made + new)
        made += new
        passed = [outcome(each) for each in pending[:most]]
        left, claim = unreported.left_of(passed), unreported.claims(CLAIM)
        if fate == "not begun":
            continue
        result = server.commit(left, claim)
        if fate == "lost":
            unreported.add(left, result)
            continue
        found = unreported.reported(passed, result)
        pending = pending[len(passed) :]
        told_rejected += [job_id for job_id, _ in found.rejected]
        told_claimed += [each.id for each in found.claimed]
        parked += found.parked["unknown"]
        assert [each.id for each in found.claimed] == sorted(each.id for each in found.claimed)
    assert not unreported
    assert sorted(server.recorded + server.refused) == list(range(made))
    assert sorted(told_rejected) == sorted(server.refused)
    assert sorted(told_claimed) == list(range(1, server.claimed + 1))


def test_while_the_caller_does_not_know_of_a_claim_no_more_is_claimed() -> None:
    server, unreported = Server(), UnreportedCommits(1)
    assert unreported.claims(CLAIM) is CLAIM
    unreported.add([], server.commit([], CLAIM))
    assert unreported.claims(CLAIM) is None
    found = unreported.reported([], server.commit([], None))
    assert (found.has_more, found.due_in_us) == (True, None)
    assert unreported.claims(CLAIM) is CLAIM
