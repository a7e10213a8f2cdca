"""The command line. `main` is what the `mpdispatch` script calls.

    main ▸ program (finds the command, imports only its module) ▸ commands/* ▸ store, engine, supervisor

What a person sees goes through `output`; every error ends in `main`, as a line on stderr and an exit code.
"""

from mpdispatch.cli.main import main

__all__ = ["main"]
