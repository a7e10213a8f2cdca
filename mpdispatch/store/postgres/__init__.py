"""The PostgreSQL store: a schema of a database, shared by any number of hosts.

client threads                          supervisor's thread
ClientSessions ── a pool per process    SupervisorSession ── one connection, waits for no lock longer than 50 ms
       └───────────────▶ Session ◀───────────┘     BEGIN and the schema's advisory lock, work, COMMIT: who lost the
                            │                      answer to a COMMIT learns by `writers` what came of it
                         Server ── wire, migration   a connection with deadlines; the schema's version

`wake` tells supervisors and waiting clients by LISTEN and NOTIFY; `options` reads locations, `sources` what an app has.
`transfer` moves all rows to another store, or from one; `script` prints the schema.
"""

from mpdispatch.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
