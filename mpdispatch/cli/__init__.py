"""The command line. `main` is what the `mpdispatch` script calls.

    main ▸ program (finds the command, imports only its module) ▸ commands/* ▸ engine's client, or supervisor

All that a person sees goes through `output`; every error ends in `main`, as a line on stderr and an exit code.
Not here: anything a library user could want too; that belongs in `engine.client`.
"""

from mpdispatch.cli.main import main

__all__ = ["main"]
