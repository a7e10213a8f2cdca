"""Counts, logs and publishes what the store has recorded. Effects: the log, a hook sink."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mpdispatch.model import Cause, ClaimedJob, JobState, Transition
from mpdispatch.repeated import Repeated
from mpdispatch.store.values import CommitResult
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.in_flight import InFlight, PendingOutcome

_NAMED = 10
"""At most this many jobs that the store has ended are logged one by one, per commit and cause."""
_BECAME = {JobState.FAILED: "failed", JobState.CANCELLED: "was cancelled", JobState.SCHEDULED: "is put off"}


@dataclass(slots=True)
class OutcomeReporter:
    """The loop's thread only."""

    _in_flight: InFlight
    _log: logging.Logger
    _repeats: Repeated
    _publisher: EventPublisher | None

    def written(self, items: Sequence[PendingOutcome], result: CommitResult) -> bool:
        """A commit recorded these outcomes, except those it rejected. True: some jobs did not complete, and
        may be due."""
        in_flight, publisher, may_be_due = self._in_flight, self._publisher, False
        rejected, completed = set(result.rejected), 0
        for item in items:
            transition = item.transition
            if rejected and (transition.job_id, transition.starts) in rejected:
                in_flight.stale()
                self._repeats.log(
                    "stale",
                    logging.WARNING,
                    "dropped the outcome of a job that is not ours any more",
                    extra={"job": transition.job_id},
                )
            elif transition.state is JobState.COMPLETED:
                completed += 1  # counted once for all: nearly every outcome is a completion
            else:
                in_flight.recorded(transition.state)
            if publisher is not None:
                self._publish(publisher, item, result)
            if transition.cause is not Cause.COMPLETED:
                may_be_due = True
                self._log_one(item, result)
        in_flight.recorded(JobState.COMPLETED, completed)
        if publisher is not None:
            publisher.flush()
        return may_be_due

    def _publish(self, publisher: EventPublisher, item: PendingOutcome, result: CommitResult) -> None:
        token = (item.transition.job_id, item.transition.starts)
        if token not in result.rejected:
            transition = item.transition
            if token in result.cancelled:
                transition = msgspec.structs.replace(transition, state=JobState.CANCELLED)
            publisher.recorded(item.job, transition)

    def _log_one(self, item: PendingOutcome, result: CommitResult) -> None:
        transition = item.transition
        if transition.cause is Cause.RELEASED:
            return
        state = transition.state
        if (transition.job_id, transition.starts) in result.cancelled:
            state = JobState.CANCELLED
        log_outcome(self._log, item.job, transition, state)

    def followed(self, result: CommitResult) -> None:
        """Tell of what the store did by itself: jobs it has ended, and callbacks it has enqueued."""
        if result.enqueued and self._publisher is not None:
            self._publisher.called_back(result.enqueued)
            self._publisher.flush()
        if result.ended:
            self._ended(result.ended)

    def _ended(self, ended: Sequence[tuple[ClaimedJob, Transition]]) -> None:
        for _, transition in ended:
            self._in_flight.recorded(transition.state)
        if self._publisher is not None:
            for job, transition in ended:
                self._publisher.recorded(job, transition)
            self._publisher.flush()
        cancelled = [transition for _, transition in ended if transition.cause is not Cause.ERROR]
        unreadable = [transition for _, transition in ended if transition.cause is Cause.ERROR]
        text = "jobs that had expired, or waited for a failed one, or whose batch was cancelled"
        self._log_some(logging.WARNING, "job %d was cancelled: %s", text, cancelled)
        text = "a row of the store cannot be read, so job %d failed: %s"
        self._log_some(logging.ERROR, text, "rows that cannot be read", unreadable)

    def _log_some(self, level: int, text: str, what: str, transitions: Sequence[Transition]) -> None:
        for each in transitions[:_NAMED]:
            self._log.log(level, text, each.job_id, each.error)
        if (more := len(transitions) - _NAMED) > 0:
            self._log.log(level, "and %d more %s", more, what)


def log_outcome(log: logging.Logger, job: ClaimedJob, transition: Transition, state: JobState) -> None:
    """Log a start that did not complete, and the state of its job now."""
    # All facts in the text: other formatters do not show `extra`.
    log.log(
        logging.WARNING if transition.error is not None else logging.DEBUG,
        "job %d (%s) %s: %s",
        job.id,
        job.name,
        _BECAME.get(state, "runs again"),
        transition.error or transition.cause.value,
        extra={"cause": transition.cause.value, "attempt": job.attempt},
    )
