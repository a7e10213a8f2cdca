"""What a supervisor has to hear of commits that a server carried out, and whose replies were lost. Pure.

The store raised, so the supervisor believes that nothing was written: it keeps its outcomes and passes them again. The
store must not record or reject these a second time, and its next reply must name the jobs that were claimed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpdispatch.model import ClaimRequest, Transition
from mpdispatch.store.values import CommitResult

Key = tuple[int, int]
"""A job's id and the number of its starts."""


class UnreportedCommits:
    """The commits of one owner whose results the supervisor does not know yet."""

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self._recorded: dict[Key, bool] = {}
        """Outcomes that were passed and will be again; whether they touched a row."""
        self._result: CommitResult | None = None

    def __bool__(self) -> bool:
        return bool(self._recorded) or self._result is not None

    def add(self, transitions: Sequence[Transition], result: CommitResult) -> None:
        """The server has carried out a commit of these outcomes, and the reply was lost."""
        rejected = set(result.rejected)
        for each in transitions:
            key = (each.job_id, each.starts)
            self._recorded[key] = key not in rejected
        self._result = _joined(self._result, msgspec.structs.replace(result, rejected=()))

    def left_of(self, transitions: Sequence[Transition]) -> Sequence[Transition]:
        """Those that are yet to be recorded."""
        return [each for each in transitions if (each.job_id, each.starts) not in self._recorded]

    @property
    def claimed(self) -> set[Key]:
        """The jobs that were claimed, and that the caller does not know of."""
        return set() if self._result is None else {(each.id, each.starts) for each in self._result.claimed}

    def claims(self, claim: ClaimRequest | None) -> ClaimRequest | None:
        """What the next commit may claim: nothing, if there are jobs that the caller does not know of."""
        return None if self.claimed else claim

    def reported(self, transitions: Sequence[Transition], result: CommitResult) -> CommitResult:
        """The result for a caller that has passed these outcomes, where only those left were passed on."""
        keys = [(each.job_id, each.starts) for each in transitions]
        rejected = [key for key in keys if not self._recorded.pop(key, True)]
        found, self._result = _joined(self._result, result), None
        return msgspec.structs.replace(found, rejected=[*found.rejected, *rejected])


def _joined(earlier: CommitResult | None, later: CommitResult) -> CommitResult:
    if earlier is None:
        return later
    claimed = [*earlier.claimed, *later.claimed]
    return msgspec.structs.replace(
        later,
        # The order of claiming.
        claimed=sorted(claimed, key=lambda each: (-each.priority, each.run_at_us, each.id)),
        rejected=[*earlier.rejected, *later.rejected],
        parked={
            reason: earlier.parked.get(reason, 0) + later.parked.get(reason, 0)
            for reason in {**earlier.parked, **later.parked}
        },
        cancelled=[*earlier.cancelled, *later.cancelled],
        # What was claimed earlier took the place of a claim now: look again.
        has_more=later.has_more or bool(earlier.claimed),
        due_in_us=None if earlier.claimed else later.due_in_us,
        ended=[*earlier.ended, *later.ended],
        enqueued=[*earlier.enqueued, *later.enqueued],
    )
