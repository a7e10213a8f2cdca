"""What SQL stores share: the statements, what reads and writes rows with them, and both faces of a store over sessions.

    SQLStore            SQLSupervisorStore          the faces: they hand work to …
        │                    │
    ClientSessions      SupervisorSession           … a backend's sessions, which run it in one transaction on …
              └────────┬────────┘
                  Connection                        … a connection with SQLite's dialect

A function that takes a connection runs inside a caller's transaction or read. The statements stand in `.sql` files
beside the modules, in SQLite's dialect; `queries.py` loads them. `transfer` moves all rows of a store to another one.

Not here: how a database is opened, locked, waited for, made or mended, and whatever a backend does faster in its own way:
that is the backend's room, which imports this one.
"""
