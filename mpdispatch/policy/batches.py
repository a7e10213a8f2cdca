"""When a batch has failed too often. Pure."""

from __future__ import annotations


def exceeds(*, failed: int, total: int, is_open: bool, max_fails: int | None, share: float | None) -> bool:
    """Whether a batch has more failures than it may have.

    >>> exceeds(failed=2, total=30, is_open=False, max_fails=None, share=0.05)
    True
    >>> exceeds(failed=2, total=30, is_open=True, max_fails=None, share=0.05), exceeds(
    ...     failed=2, total=30, is_open=True, max_fails=2, share=None)
    (False, False)
    """
    if max_fails is not None and failed > max_fails:
        return True
    return share is not None and not is_open and failed > share * total
