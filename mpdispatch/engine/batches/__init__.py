"""Jobs that belong together: `batch.Batch` is one.

`arguments` checks those of `engine.batch`, `block` makes members of what is enqueued inside it, `bulk` of many at once;
`waiting` waits for the end, `listing` finds batches again.
"""
