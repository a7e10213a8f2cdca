"""This machine: what is true here, whatever the store is. Effects: processes, files of the runtime folder.

`processes` (which process is which), `liveness` (which supervisors live), `kill` and `leftovers` (ending processes),
`start_journal` with `reply_ring` (what workers began and answered, kept by the page cache), `journal_reader` (the same as
somebody else sees it), `supervising_lock` (which of several extensions supervises), `linux` (kernel calls without a name).
It does not know the store, nor the store it: the engine and the supervisor bring them together.
"""
