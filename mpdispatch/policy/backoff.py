"""How long to wait before a failed job is tried again. Pure: no I/O, no clock, no randomness of its own.

    from mpdispatch import backoff
    backoff.Exponential(base=5, max=timedelta(hours=2))

The values are frozen, comparable, and cross a process boundary as JSON:
`msgspec.json.decode(msgspec.json.encode(b), type=BackoffSpec) == b`.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from mpdispatch.errors import UsageError
from mpdispatch.policy.durations import as_seconds
from mpdispatch.policy.names import shown


class Backoff(msgspec.Struct, frozen=True, tag_field="kind"):
    """A rule for the delay before each retry; use one of its four kinds."""

    def delay_s(self, attempt: int, u: float) -> float:
        """Seconds to wait before retry number `attempt` (1 = the first retry).

        `u` in [0, 1) is the only randomness; kinds without jitter ignore it. Never negative, never over
        the rule's `max`, whatever the attempt.

        Raises UsageError: `attempt` is below 1 or `u` outside [0, 1).
        """
        if attempt < 1:
            raise UsageError(f"attempt: must be 1 or more, not {shown(attempt)}")
        if not 0 <= u < 1:
            raise UsageError(f"u: must be in [0, 1), not {shown(u)}")
        return self._delay_s(attempt, u)

    def _delay_s(self, attempt: int, u: float) -> float:
        raise NotImplementedError(f"{type(self).__name__} is no backoff; use Constant, Linear, Exponential …")

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            try:
                read = _checked_factor if field == "factor" else as_seconds
                force_setattr(self, field, read(getattr(self, field)))
            except UsageError as error:
                raise UsageError(f"{field}: {error}") from None
        if "max" in self.__struct_fields__:
            first = self.__struct_fields__[0]
            least, most = getattr(self, first), getattr(self, "max")  # noqa: B009 - which of the four has it
            if most < least:
                raise UsageError(f"max: must be at least {first} ({least:g} s), not {most:g} s")


class Constant(Backoff, frozen=True, tag="constant"):
    """The same `interval` before each retry (float seconds or a timedelta, zero or more).

    >>> Constant(3).delay_s(7, 0.5)
    3.0

    Raises UsageError: the interval is no duration.
    """

    interval: float

    if TYPE_CHECKING:  # what may be passed is wider than what the value then holds

        def __init__(self, interval: float | timedelta) -> None: ...

    def _delay_s(self, attempt: int, u: float) -> float:
        return self.interval


class Linear(Backoff, frozen=True, tag="linear"):
    """`initial`, twice that, three times that … but never over `max` (float seconds or timedeltas).

    >>> [Linear(initial=2, max=5).delay_s(n, 0.0) for n in (1, 2, 3)]
    [2.0, 4.0, 5.0]

    Raises UsageError: one of them is no duration, or `max` is below `initial`.
    """

    initial: float
    max: float

    if TYPE_CHECKING:

        def __init__(self, initial: float | timedelta, max: float | timedelta) -> None: ...  # noqa: A002 - public

    def _delay_s(self, attempt: int, u: float) -> float:
        return min(self.max, self.initial * min(attempt, _LAST))


class Exponential(Backoff, frozen=True, tag="exponential"):
    """`base`, then `factor` times as long each time, but never over `max` (float seconds or timedeltas).

    >>> [Exponential(base=5, max=60).delay_s(n, 0.0) for n in (1, 2, 3, 4, 5)]
    [5.0, 10.0, 20.0, 40.0, 60.0]

    Raises UsageError: one of them is no duration, `max` is below `base`, or `factor` below 1.
    """

    base: float
    max: float
    factor: float = 2.0

    if TYPE_CHECKING:

        def __init__(
            self,
            base: float | timedelta,
            max: float | timedelta,  # noqa: A002 - public name
            factor: float = 2.0,
        ) -> None: ...

    def _delay_s(self, attempt: int, u: float) -> float:
        return _grown(self.base, self.factor, self.max, attempt)


class ExponentialJitter(Backoff, frozen=True, tag="exponential_jitter"):
    """Anything from zero to `base` doubled each time, evenly spread, never over `max` ("full jitter").

    Jobs that failed together come back spread out, not together. See "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015.

    >>> ExponentialJitter(base=1, max=60).delay_s(4, 0.5)
    4.0

    Raises UsageError: one of them is no duration, or `max` is below `base`.
    """

    base: float = 1.0
    max: float = 60.0

    if TYPE_CHECKING:

        def __init__(self, base: float | timedelta = 1.0, max: float | timedelta = 60.0) -> None: ...  # noqa: A002 - public

    def _delay_s(self, attempt: int, u: float) -> float:
        return u * _grown(self.base, 2.0, self.max, attempt)


BackoffSpec: TypeAlias = Constant | Linear | Exponential | ExponentialJitter
"""What a worker decodes a backoff as."""


def _checked_factor(value: object) -> float:
    message = f"must be a number of 1 or more, not {shown(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(message)
    try:
        factor = float(value)
    except OverflowError:
        raise UsageError(message) from None
    if not 1 <= factor < math.inf:
        raise UsageError(message)
    return factor


# The last whole number every float can count to. Past it an int times a float may overflow, and delays
# that have not reached their max by then are too small to be told from zero.
_LAST = 2**53


def _grown(base: float, factor: float, max_s: float, attempt: int) -> float:
    """`base * factor ** (attempt - 1)`, at most `max_s`, for any attempt."""
    if base == 0:
        return 0.0  # zero times a power too large to compute is still zero
    try:
        return min(max_s, base * factor ** min(attempt - 1, _LAST))
    except OverflowError:
        return max_s


DEFAULT = ExponentialJitter(base=1, max=60)
"""The backoff of jobs and engines that name none."""
