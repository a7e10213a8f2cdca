"""Runs jobs in the worker process: imports the app, calls one handler at a time, cleans up after it.

    frame ──▶ Executor ──▶ middleware ──▶ handler ──▶ Outcome ──▶ reply

Also what both sides need to find an app: `app_reference`, `catalog`, `findable`, `loading`.
Not here: the worker's main loop and its channel (`pool`), and any decision about a job (`policy`).
"""
