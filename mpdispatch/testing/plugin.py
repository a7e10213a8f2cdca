"""The fixture for pytest, which finds it by itself (entry point `pytest11`). Imports nothing else until it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from mpdispatch import testing

if TYPE_CHECKING:
    from mpdispatch.testing.isolation import AnyEngine

E = TypeVar("E", bound="AnyEngine")


class IsolatedEngine(Protocol):
    """Gives an engine a store of its own until the end of the test; returns the engine."""

    def __call__(self, engine: E, path: str | os.PathLike[str] | None = None, *, shared: bool = False) -> E: ...


@pytest.fixture
def isolated_engine() -> Iterator[IsolatedEngine]:
    """Gives an engine a store of its own until the end of the test: `isolated_engine(engine, path=None)`.

    As `testing.isolated`. Returns the engine; `testing.clock(engine)` is the clock of the store.
    """
    with ExitStack() as stack:

        def isolate(engine: E, path: str | os.PathLike[str] | None = None, *, shared: bool = False) -> E:
            stack.enter_context(testing.isolated(engine, path, shared=shared))
            return engine

        yield isolate
