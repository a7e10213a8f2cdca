"""`engine.map`: `call` checks its arguments, `places` makes or finds its jobs, `results` gives what they returned.

`lock` keeps a second caller of the same name out.
"""
