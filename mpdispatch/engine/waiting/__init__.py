"""Waiting for jobs to end: `waits` is what a client offers.

`blocking` blocks a thread, `loop_watch` the tasks of an event loop.
"""
