"""Cron entries: `entries` are those of a store, `declarations` those of an app's code.

`keywords`, `options` and `values` check what is said of one, `jobs` makes its job, `slots` its times.
"""
