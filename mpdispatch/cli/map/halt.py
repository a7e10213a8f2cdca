"""When `map` ends before all its jobs have: `--halt now|soon,fail=N|fail=X%|success=N|done=N`. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from mpdispatch.errors import UsageError
from mpdispatch.policy.names import shown

_RULE = re.compile(r"(now|soon),(fail|success|done)=([0-9]+)(%?)\Z")
_ALLOWED = "now or soon, a comma, and fail=N, success=N, done=N or a share such as fail=10%"


class Halt(NamedTuple):
    """A rule: after so many failed (completed, ended) jobs no more are started."""

    is_now: bool
    """End running jobs, too; else they may finish."""
    of: str
    """What is counted: "fail", "success" or "done"."""
    number: int
    is_percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Halt | None:
        """The rule; None: never.

        >>> Halt.parse("soon,fail=10%")
        Halt(is_now=False, of='fail', number=10, is_percent=True)

        Raises UsageError: it is none.
        """
        if text in ("never", "0"):
            return None
        found = _RULE.match(text)
        if found is None or int(found[3]) < 1 or (found[4] and int(found[3]) > 100):
            raise UsageError(f"--halt: must be {_ALLOWED}, not {shown(text)}")
        return cls(found[1] == "now", found[2], int(found[3]), bool(found[4]))

    def is_met(self, *, failed: int, succeeded: int, total: int) -> bool:
        """Whether it is time to end.

        >>> rule = Halt.parse("now,fail=10%")
        >>> [rule.is_met(failed=n, succeeded=0, total=25) for n in (0, 2, 3)]
        [False, False, True]
        """
        count = {"fail": failed, "success": succeeded, "done": failed + succeeded}[self.of]
        return count * 100 >= self.number * total if self.is_percent else count >= self.number
