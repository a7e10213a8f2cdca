"""The public names, which are loaded when they are first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mpdispatch
from mpdispatch import errors


def test_every_public_error_is_exported() -> None:
    assert set(errors.__all__) <= set(mpdispatch.__all__)


@pytest.mark.parametrize("name", mpdispatch.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(mpdispatch, name) is not None
    assert name in dir(mpdispatch)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mpdispatch' has no attribute 'Engin'"):
        mpdispatch.Engin  # noqa: B018


def test_a_submodule_can_be_imported_before_any_public_name_is() -> None:
    """A room asks for its neighbours this way; loading the engine then would run in a circle."""
    code = "from mpdispatch import store, sqlite3; import sys; sys.exit('mpdispatch.engine' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
