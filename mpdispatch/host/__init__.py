"""This machine: what is true here, whatever the store is. Effects: processes, files of the runtime folder.

`runtime_folder` (where the files of a store lie here), `start_journal` with `reply_ring` (what workers began and answered,
kept by the page cache), `journal_reader` (the same as somebody else sees it), `wake` (supervisors learn at once of new
jobs), `supervising_lock` (which of several extensions supervises), `http_token`; `processes` (which process is which),
`liveness` (which supervisors live), `kill` and `leftovers` (ending processes), `linux` (kernel calls without a name).

It does not know the store, nor the store it: the engine and the supervisor bring them together. What it has to know of a
store it asks for by a protocol of its own (`runtime_folder.LocatedStore`).
"""
