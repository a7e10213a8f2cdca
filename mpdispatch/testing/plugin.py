"""The fixture for pytest, which finds it by itself (entry point `pytest11`). Imports nothing else until it is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

import pytest

from mpdispatch import testing

if TYPE_CHECKING:
    from mpdispatch.engine.engine import Engine

    IsolatedEngine: TypeAlias = Callable[..., Engine]


@pytest.fixture
def isolated_engine() -> Iterator[IsolatedEngine]:
    """Gives an engine a store of its own until the end of the test: `isolated_engine(engine, path=None)`.

    In memory, or in the file `path`. Returns the engine. `testing.clock(engine)` is its clock.
    """
    with ExitStack() as stack:

        def isolate(engine: Engine, path: str | os.PathLike[str] | None = None) -> Engine:
            stack.enter_context(testing.isolated(engine, path))
            return engine

        yield isolate
