"""The examples in the docstrings of the pure modules are true."""

import doctest
import importlib
import pkgutil

import pytest

import mpdispatch.policy

MODULES = [
    "mpdispatch.config",
    *(m.name for m in pkgutil.walk_packages(mpdispatch.policy.__path__, "mpdispatch.policy.")),
]
WITH_EXAMPLES = {
    f"mpdispatch.policy.{name}"
    for name in (
        "admission",
        "backoff",
        "cron.expression",
        "cron.zones",
        "crontab",
        "decide",
        "durations",
        "lease",
        "names",
        "rate",
        "settings",
    )
}


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_are_true(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert result.attempted > 0 or name not in WITH_EXAMPLES
