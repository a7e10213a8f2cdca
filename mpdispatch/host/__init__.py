"""This machine: what is true here, whatever the store is. Effects: processes, files of the runtime folder.

- `runtime_folder`: where the files of a store lie on this machine.
- `start_journal`, of `worker_record`s with a `reply_ring` each, laid out by `journal_layout`: what workers began and
  answered, kept by the page cache. `journal_reader`: the same as somebody else sees it.
- `wake`: supervisors learn at once of new jobs. `supervising_lock`: which of several extensions supervises. `http_token`.
- `processes`: which process is which. `liveness`: which supervisors and workers live. `kill`, `leftovers`: ending them.
- `linux`: kernel calls that the standard library has no name for.

It does not know the store, nor the store it: the engine and the supervisor bring them together. What it has to know of a
store it asks for by a protocol of its own (`runtime_folder.LocatedStore`).
"""
