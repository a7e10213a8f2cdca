"""Persistence. `contract` says what a store must do, `sqlite` and `postgres` do it on `sql`, which they share, `redis`
by itself. `open` opens a store. `transfer` is how a store moves to another one, as the rows that `tables` lists.

Every method of the contract is one transaction and one transition of values.
Not here: decisions about jobs (`policy`), hosts and processes (`host`), waiting for a job to end (`engine`).
"""

from mpdispatch.store.open import open_store
from mpdispatch.store.sqlite import SQLiteStore

__all__ = ["SQLiteStore", "open_store"]
