"""Help for the tests of an app: its jobs run in the test's own process, on a store and a clock of the test."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpdispatch.testing.fake_clock import FakeClock
    from mpdispatch.testing.here import drain, inline
    from mpdispatch.testing.isolation import clock, isolated

__all__ = ["FakeClock", "clock", "drain", "inline", "isolated"]

_HOMES = {
    "FakeClock": "fake_clock",
    **dict.fromkeys(("drain", "inline"), "here"),
    **dict.fromkeys(("clock", "isolated"), "isolation"),
}

if not TYPE_CHECKING:  # or a type checker would believe that this module has any name

    def __getattr__(name: str) -> Any:
        """Load a public name (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
