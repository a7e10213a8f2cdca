"""The SQLite store: one file (or this process's memory), WAL, leases, group commit.

client threads                     supervisor's thread
SQLiteStore                        SQLiteSupervisorStore     (both on `store/sql`, which has the statements)
    │                                  │
    └────────────▶ Session ◀───────────┘      one connection each; BEGIN IMMEDIATE under …
                    │    └──── lock           … the flock in `<path>-mpd/`
                  database ── connect, schema    opens connections
"""

from mpdispatch.store.sqlite.inserts import main_file_of
from mpdispatch.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore", "main_file_of"]
