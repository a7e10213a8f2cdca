"""The app's records are empty before each test, and its own store was not touched after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing import app


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    app.log.clear()
    app.recorder.told.clear()
    yield
    assert str(app.STORE) in app.engine.store.display
    assert app.engine.in_process is None
    assert not app.STORE.exists()
