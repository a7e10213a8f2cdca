"""The parts of `mpdispatch map`: one command job per input, under a supervisor of this process.

    template, inputs ▸ feed ▸ store ▸ supervisor (a thread) ▸ ends ▸ run ▸ printer, joblog_file, halt, report

- Pure: `template` (words and placeholders), `joblog` (GNU parallel's format), `halt`; `inputs` but for reading files.
- `session` puts the parts together, from the command line to the exit code; `run` is the loop of its main thread.
- `jobs` are members of a batch in a queue of their own; `feed` enqueues them while they run.
- `folder` has what a kill leaves behind, for `--resume`: the spool, and the record of what is printed.

Not here: how a program runs and where it writes (`execution.commands`, `execution.spool`).
"""
