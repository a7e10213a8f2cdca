"""`enqueue`: put jobs into the store. With an app, name and arguments are checked; without, kept as given."""

from __future__ import annotations

__all__ = ["enqueue"]

_MAX_COUNT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wishes:
    """What the options say of the job; None: as the handler, or mpdispatch, has it."""

    queue: str | None
    priority: int | None
    max_retries: int | None
    timeout: float | None
    run_at: datetime | None
    delay: float | None
    idempotency_key: str | None
