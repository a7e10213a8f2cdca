"""Which of the due rows a claim takes, and which it parks: read lazily, in the order of priority and run_at.

One cursor per queue (and per parked name), already in due order by its index, merged over the queues.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from mpdispatch import sqlite3
from mpdispatch.model import Planner

__all__ = ["ID", "QUEUE", "Choice", "Row"]

PARK_AT_MOST = 1000
"""Per turn: one turn must not hold the write lock for long."""

Row = tuple[Any, ...]
# Columns of `due` and `parked`.
ID, _STARTS, _NAME, QUEUE, _PRIORITY, _RUN_AT_US = 0, 1, 3, 4, 5, 6


class Choice:
    """What a claim takes, and what it parks, while it is looked for."""

    def __init__(self, planner: Planner, left: dict[str, int], total: int) -> None:
        self.rows = list[Row]()
        self.ids_again = list[int]()
        """Of those rows, the ones that were started or parked before."""
        self.parked = list[tuple[str, int]]()
        self.has_more = False
        """It stopped before it had seen all."""
        self._left, self._total = left, total
        self._refusal = planner.refusal
        self._reasons = dict[str, str | None]()

    def _reason(self, name: str) -> str | None:
        if name not in self._reasons:
            self._reasons[name] = self._refusal(name)
        return self._reasons[name]

    def from_one(self, queue: str, due: sqlite3.Cursor) -> None:
        """From one queue: its rows come as they are to be taken, so many are looked at together."""
        most = min(self._total, self._left[queue])
        while rows := due.fetchmany(most - len(self.rows)):
            names = {row[_NAME] for row in rows}
            refused = {name: reason for name in names if (reason := self._reason(name)) is not None}
            if refused:
                self.parked += [(refused[row[_NAME]], row[ID]) for row in rows if row[_NAME] in refused]
                rows = [row for row in rows if row[_NAME] not in refused]
            self.rows += rows
            self.ids_again += [row[ID] for row in rows if row[_STARTS] > 1]
            if len(self.rows) >= most or len(self.parked) >= PARK_AT_MOST:
                self.has_more = most == self._total or len(self.rows) < most
                return

    def from_many(self, streams: Iterable[tuple[sqlite3.Cursor, bool]]) -> None:
        """From several streams (a cursor, whether of parked jobs), each in due order: merged."""
        heads = [
            (-row[_PRIORITY], row[_RUN_AT_US], row[ID], row, cursor, is_parked)
            for cursor, is_parked in streams
            if (row := cursor.fetchone()) is not None
        ]
        heapq.heapify(heads)
        left = self._left
        while heads:
            _, _, job_id, row, cursor, is_parked = heads[0]
            queue = row[QUEUE]
            if left[queue] <= 0:
                # Not read on: a full queue may hold a million due jobs.
                heapq.heappop(heads)
                continue
            if (reason := self._reason(row[_NAME])) is not None:
                self.parked.append((reason, job_id))
            else:
                self.rows.append(row)
                left[queue] -= 1
                if is_parked or row[_STARTS] > 1:
                    self.ids_again.append(job_id)
            if len(self.rows) >= self._total or len(self.parked) >= PARK_AT_MOST:
                self.has_more = True
                return
            if (row := cursor.fetchone()) is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (-row[_PRIORITY], row[_RUN_AT_US], row[ID], row, cursor, is_parked))
