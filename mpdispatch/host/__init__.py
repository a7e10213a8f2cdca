"""Processes and files of this machine, for any store. Effects: processes, files of the runtime folder.

- `runtime_folder`: where the files of a store lie on this machine.
- `start_journal`: which jobs workers started and what they replied, kept by the page cache. It consists of one
  `worker_record` with a `reply_ring` per worker; `journal_layout` is its file format, `journal_reader` reads it from
  another process.
- `wake`: supervisors learn at once of new jobs, waiting clients of ended ones. `http_token`.
- `process_lock`: which of several extensions supervises, which process goes on with a map.
- `processes`: which process is which. `liveness`: which supervisors and workers live. `kill`, `leftovers`: ending them.
- `linux`: kernel calls that the standard library lacks.

Host and store do not import each other: the engine and the supervisor combine them. What the host needs from a store is
a protocol of its own (`runtime_folder.LocatedStore`).
"""
