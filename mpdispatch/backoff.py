"""How long to wait before a failed job is tried again: the public name of `mpdispatch.policy.backoff`."""

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
