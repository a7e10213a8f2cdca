"""Jobs that were not started by the time after which nobody wants them. Pure: no I/O, no clock.

The same rule holds in three places, because a job may wait in each of them: a claim leaves such a job out, a worker looks
once more before it calls the handler, and the upkeep of a store ends what nobody claims.
"""

from __future__ import annotations

from mpdispatch.model import Cause, ClaimedJob, ErrorInfo, JobState, Transition
from mpdispatch.model.json import moment_of, time_to_json


def has_expired(expires_at_us: int | None, now_us: int) -> bool:
    """Whether a job may not be started any more. Both are wall times.

    >>> has_expired(None, 5), has_expired(6, 5), has_expired(5, 5)
    (False, False, True)
    """
    return expires_at_us is not None and expires_at_us <= now_us


def expiry_error(expires_at_us: int | None) -> ErrorInfo:
    """What the history says of it.

    >>> str(expiry_error(1_700_000_000_000_000))
    'JobExpired: it expired: it was not started by 2023-11-14T22:13:20.000000Z'
    """
    by = "" if expires_at_us is None else f" by {time_to_json(moment_of(expires_at_us))}"
    return ErrorInfo(type="JobExpired", message=f"it expired: it was not started{by}")


def expired(job: ClaimedJob, now_us: int) -> Transition:
    """What to write for a waiting job that has expired. `job` has the row's own `starts` and `attempt`."""
    return Transition(
        job_id=job.id,
        starts=job.starts,
        state=JobState.CANCELLED,
        attempt=job.attempt,
        cause=Cause.EXPIRED,
        at_us=now_us,
        error=expiry_error(job.expires_at_us),
        claim_attempt=job.attempt + 1,  # the one that did not begin
    )
