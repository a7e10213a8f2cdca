"""The public names, which are loaded when they are first asked for."""

from __future__ import annotations

import inspect
import pydoc
import re
import subprocess
import sys

import pytest

import mpdispatch
from mpdispatch import Engine, errors, testing
from mpdispatch.engine import JobHandle
from mpdispatch.engine.options import EnqueueKeywords, JobKeywords
from mpdispatch.middleware import JobContext


def test_every_public_error_is_exported() -> None:
    assert set(errors.__all__) <= set(mpdispatch.__all__)


def test_an_error_is_named_by_the_module_it_is_imported_from() -> None:
    """The name is kept with the failed job, and shown."""
    assert {getattr(errors, name).__module__ for name in errors.__all__} == {"mpdispatch.errors"}


@pytest.mark.parametrize("name", mpdispatch.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(mpdispatch, name) is not None


@pytest.mark.parametrize("name", testing.__all__)
def test_help_for_tests_is_there_and_explained(name: str) -> None:
    assert name in dir(testing)
    assert inspect.getdoc(getattr(testing, name))
    assert re.search(rf"^    .*\b{name}\b", testing.__doc__ or "", re.MULTILINE)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mpdispatch' has no attribute 'Engin'"):
        mpdispatch.Engin  # noqa: B018


def test_a_submodule_can_be_imported_before_any_public_name_is() -> None:
    """A room asks for its neighbours this way; loading the engine then would run in a circle."""
    code = "from mpdispatch import store, sqlite3; import sys; sys.exit('mpdispatch.engine' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---------------------------------------------------------------- what help shows


def shown_by_help(thing: object) -> str:
    return pydoc.plain(pydoc.render_doc(thing))


def test_help_begins_with_what_people_use_and_not_with_errors() -> None:
    for each in errors.__all__:
        getattr(mpdispatch, each)  # also once they are loaded
    text = shown_by_help(mpdispatch)
    top, _, rest = text.partition("PACKAGE CONTENTS")
    for name in (
        "Engine",
        "Dispatcher",
        "Config",
        "current_job",
        "job",
        "Retry",
        "Job",
        "SQLiteStore",
        "backoff",
    ):
        assert re.search(rf"^    .*\b{name}\b", top, re.MULTILINE), name
        assert name in dir(mpdispatch)
    shown = {name for name in errors.__all__ if re.search(rf"^    class {name}\b", rest, re.MULTILINE)}
    assert shown == {"Cancel", "DispatchError", "Retry", "Snooze"}
    assert set(mpdispatch.__all__) - set(errors.__all__) <= set(dir(mpdispatch))


@pytest.mark.parametrize(
    ("face", "keywords"),
    [
        (Engine.job, JobKeywords),
        (mpdispatch.job, JobKeywords),
        (Engine.options, EnqueueKeywords),
        (JobHandle.options, EnqueueKeywords),
    ],
)
def test_help_explains_every_option(face: object, keywords: type) -> None:
    explained = set(re.findall(r"^ *(\w+): ", shown_by_help(face), re.MULTILINE))
    assert set(keywords.__annotations__) <= explained


def test_help_explains_every_field_of_the_job_context() -> None:
    public = {name for name in dir(JobContext) if not name.startswith("_")}
    assert {name for name in public if not inspect.getdoc(inspect.getattr_static(JobContext, name))} == set()
    text = shown_by_help(JobContext)
    for name in public:
        documented = inspect.getdoc(inspect.getattr_static(JobContext, name))
        assert documented is not None
        assert documented.splitlines()[0] in text, name
    promised = (
        "id name queue attempt max_retries deadline idempotency_key fencing_token is_cancelled progress log"
    )
    assert set(promised.split()) <= public
    assert all(re.search(rf"\b{name}\b", inspect.getdoc(JobContext) or "") for name in promised.split())
