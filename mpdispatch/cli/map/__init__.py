"""The parts of `mpdispatch map`: one command job per input, under a supervisor of its own.

    template, inputs ▸ commands ▸ store ▸ supervisor of this process ▸ ends ▸ printer (stdout, stderr), joblog, halt, bar

- Pure: `template` (words and placeholders), `inputs` (lists and lines), `joblog` (GNU parallel's format), `halt`.
- `commands/map.py` reads the command line and puts these together.
"""
