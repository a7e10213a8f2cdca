"""The entry point: runs a command, and turns every error into lines on stderr and an exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

import click

from mpdispatch.cli.output import complain, escape
from mpdispatch.cli.program import COMPLETE_VARIABLE, Options, program
from mpdispatch.errors import AppImportError, ConfigError, DispatchError, PayloadError

# The code that a shell reports for a process ended by a broken pipe. 1 means that a job failed.
_BROKEN_PIPE = 128 + 13
_INTERRUPTED = 128 + 2
_INTERNAL = 70
_IO_ERROR = 74


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. `args` defaults to `sys.argv[1:]`."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = _run(args)
    # The interpreter would walk through all objects as it ends: a quarter of the time of a short command.
    gc.freeze()
    sys.exit(code)


def _open_standard_streams() -> None:
    """Open closed descriptors 0 to 2. Otherwise the next opened file would get the number, and prints would go into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # It gets the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _run(args: Sequence[str] | None) -> int:
    try:
        code = _invoke(sys.argv[1:] if args is None else list(args))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
        return _BROKEN_PIPE
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except (click.ClickException, DispatchError) as error:
        _complain_of(error)
        return error.exit_code
    except OSError as error:
        # Stores raise their own errors, so this one is about a terminal, a pipe or a file that we write to.
        _forget_stdout()
        _complain_of(error)
        return _IO_ERROR
    except Exception:  # noqa: BLE001  a bug of ours; the code must not say that a job failed
        import traceback

        sys.stderr.write(traceback.format_exc())
        complain("internal error; your jobs are safe in the store. Please report it with the lines above")
        return _INTERNAL
    return code if isinstance(code, int) else 0


def _invoke(args: list[str]) -> object:
    if COMPLETE_VARIABLE in os.environ:  # a shell asks for completions
        program.main(args, prog_name="mpdispatch")
    try:
        # Not `program.main`: it exits with 1 after a broken pipe, which means here that a job failed.
        with program.make_context("mpdispatch", args, obj=Options()) as context:
            return program.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code


def _complain_of(error: Exception) -> None:
    if isinstance(error, AppImportError) and error.traceback:
        # The fault is in the user's code, and only the traceback shows where.
        sys.stderr.writelines(escape(line) + "\n" for line in error.traceback.splitlines())
    for line in _lines(error):
        complain(line)


def _lines(error: Exception) -> Iterator[str]:
    match error:
        case ConfigError(faults=faults):
            yield from map(str, faults)
        case PayloadError(faults=faults, job_name=name):
            yield from (f"job {name!r}: {fault}" for fault in faults)
        case click.ClickException():
            yield error.format_message()
            if isinstance(error, click.UsageError) and error.ctx is not None:
                yield f"try `{error.ctx.command_path} --help`"
        case OSError() if not isinstance(error, DispatchError):
            yield f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        case _:
            yield str(error)


def _forget_stdout() -> None:
    """Redirect stdout to nowhere, so that nothing is flushed to a reader that has gone, even at the interpreter's end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        # It was closed from the start, or is no real file (in a test), so nothing will be flushed to it.
        sys.stdout = None  # Python's own value for "there is none"
