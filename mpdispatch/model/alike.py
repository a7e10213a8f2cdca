"""Many jobs of which only the payloads differ. A value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import msgspec

from mpdispatch.model.job import NewJob


class AlikeJobs(Sequence[NewJob]):
    """As a list of NewJobs, without making them: one for each payload, and each like `template` in all else.

    A store that takes any sequence of jobs takes this one; one that knows it may be quicker.

    >>> jobs = AlikeJobs(NewJob(name="resize", payload=b"{}", queue="bulk"), [b'{"n":1}', b'{"n":2}'])
    >>> len(jobs), jobs[1].queue, jobs[1].payload
    (2, 'bulk', b'{"n":2}')
    """

    __slots__ = ("payloads", "template")

    def __init__(self, template: NewJob, payloads: Sequence[bytes]) -> None:
        self.template, self.payloads = template, payloads

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, index: int) -> NewJob: ...
    @overload
    def __getitem__(self, index: slice) -> AlikeJobs: ...
    def __getitem__(self, index: int | slice) -> NewJob | AlikeJobs:
        if isinstance(index, slice):
            return AlikeJobs(self.template, self.payloads[index])
        return msgspec.structs.replace(self.template, payload=self.payloads[index])
