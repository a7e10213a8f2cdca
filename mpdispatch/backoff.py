"""How long to wait before a failed job is tried again: `backoff.Exponential(base=5, max=2 * 3600)`.

The public name of `mpdispatch.policy.backoff`.
"""

from mpdispatch.policy.backoff import (
    DEFAULT,
    Backoff,
    BackoffSpec,
    Constant,
    Exponential,
    ExponentialJitter,
    Linear,
)

__all__ = ["DEFAULT", "Backoff", "BackoffSpec", "Constant", "Exponential", "ExponentialJitter", "Linear"]
