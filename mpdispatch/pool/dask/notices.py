"""What the connection to a cluster tells the pool. Values only."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Joined(NamedTuple):
    """A dask worker has come."""

    address: str


class Left(NamedTuple):
    """A dask worker is gone, or not heard of for so long that it counts as gone."""

    address: str
    why: str


class Answered(NamedTuple):
    """A task has ended. `fault`: why there is no answer."""

    number: int
    answer: bytes
    fault: str = ""


class Reported(NamedTuple):
    """A message of a running job."""

    frame: bytes


class Revoked(NamedTuple):
    """Whether a job that had not begun never will; False: it has begun, or nobody knows."""

    number: int
    is_certain: bool


class Disconnected(NamedTuple):
    """The scheduler is lost, and all that ran there with it, as far as we know."""

    why: str


Notice: TypeAlias = Joined | Left | Answered | Reported | Revoked | Disconnected
