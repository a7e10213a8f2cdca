"""Named points where a test can make this process die, raise or stall. Ground.

Off unless `TESTS_OF_MPDISPATCH` is 1 and `MPDISPATCH_FAILPOINTS` is set when the process starts, e.g.
`finish.before_commit:kill` or `claim.after_commit:sleep=3,rescue.before_commit:raise`.
`name:action@3` acts from the third hit on; default is the first. Actions: kill, stop, raise, sleep=SECONDS.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from mpdispatch.clock import sleep
from mpdispatch.errors import ConfigError, Fault

VARIABLE = "MPDISPATCH_FAILPOINTS"
SWITCH = "TESTS_OF_MPDISPATCH"


class FailpointError(Exception):
    """Raised at a failpoint armed with `raise`."""


class _Failpoint(NamedTuple):
    action: str
    value: float
    from_hit: int


_SECONDS, _HIT = r"(?:(?<=sleep)=(\d{1,9}(?:\.\d{1,9})?))?", r"(?:@([1-9]\d{0,8}))?"
_FORM = re.compile(rf"([^:]+):(kill|stop|raise|sleep(?==)){_SECONDS}{_HIT}")


def _parse(text: str) -> dict[str, _Failpoint]:
    armed: dict[str, _Failpoint] = {}
    for item in filter(None, text.split(",")):
        if (found := _FORM.fullmatch(item)) is None:
            told = f"{item[:60]!a} is no failpoint; write name:action or name:action@hit, such as claim.after_commit:kill"
            raise ConfigError([Fault(VARIABLE, f"{told}; actions are kill, stop, raise and sleep=SECONDS")])
        name, action, value, nth = found.groups()
        armed[name] = _Failpoint(action, float(value or 0), int(nth or 1))
    return armed


# Only in tests that set SWITCH: a stray VARIABLE in production must not end a process.
_armed = _parse(os.environ.get(VARIABLE, "") if os.environ.get(SWITCH) == "1" else "")
_hits: dict[str, int] = {}


def arm(text: str) -> None:
    """Arm failpoints of this process from a test; `""` disarms all."""
    _armed.clear()
    _hits.clear()
    _armed.update(_parse(text))


def failpoint(name: str) -> None:
    """Run the action armed for `name`; does nothing in a normal run."""
    if not _armed or (point := _armed.get(name)) is None:
        return
    _hits[name] = _hits.get(name, 0) + 1
    if _hits[name] < point.from_hit:
        return
    import signal  # only for tests

    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif point.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif point.action == "sleep":
        sleep(point.value)
    else:
        raise FailpointError(name)
