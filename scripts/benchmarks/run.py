"""What a mode is given to measure with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import Peer, Scheduler
from servers import Server
from service import Service
from sizes import Size


@dataclass(slots=True)
class Run:
    """A folder for stores, how much to measure, and whom to measure beside."""

    folder: Path
    size: Size
    peers: Sequence[Peer] = ()
    schedulers: Sequence[Scheduler] = ()
    server: Server | None = None
    """Where stores and peers are; None: stores are files."""
    parallel: str | None = None
    """GNU parallel, if the mode `map` measures beside it."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def service(self, name: str, **options: Any) -> Service:
        """A fresh store with its (not yet started) supervisor; options as Service takes them."""
        numbered = f"{name}-{next(self._numbers)}"
        store = None if self.server is None else self.server.location(numbered)
        return Service(self.folder, numbered, store=store, **options)

    def path(self, name: str) -> Path:
        """Where nothing is yet."""
        return self.folder / f"{name}-{next(self._numbers)}"
