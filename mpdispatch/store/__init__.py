"""Persistence. `base` says what a store must do; `sqlite` does it; `open_store` finds the right one."""

from mpdispatch.store.open import open_store
from mpdispatch.store.sqlite import SQLiteStore

__all__ = ["SQLiteStore", "open_store"]
