"""The public names, which are loaded when they are first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mpdispatch
from mpdispatch import errors, face


def test_every_public_error_is_exported() -> None:
    assert set(errors.__all__) <= set(face.__all__)


def test_public_names_are_those_of_the_face() -> None:
    assert dir(mpdispatch) == sorted(face.__all__)
    for name in face.__all__:
        assert getattr(mpdispatch, name) is getattr(face, name)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mpdispatch' has no attribute 'Engin'"):
        mpdispatch.Engin  # type: ignore[attr-defined]  # noqa: B018


def test_a_submodule_can_be_imported_before_the_face_is_loaded() -> None:
    """A room asks for its neighbours this way; loading the face then would run in a circle."""
    code = "from mpdispatch import store, sqlite3; import sys; sys.exit('mpdispatch.engine' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
