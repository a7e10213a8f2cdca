"""Command jobs: a program instead of a handler. The first half runs where they are enqueued, `run_command` in the worker.

The program ends with its job. At a timeout or cancel its process group gets SIGTERM, and SIGKILL soon after. Processes
that leave the group are found by the worker's mark in their environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mpdispatch.errors import CommandFailedError, Fault, JobTimeout, PayloadError, UsageError
from mpdispatch.execution.environment import environment
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.process_context import current_job
from mpdispatch.execution.program import EndListener, Listener, PipeReader, end, start
from mpdispatch.execution.spool import Spool
from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.host.processes import signal_name
from mpdispatch.model import COMMAND_JOB, Command
from mpdispatch.model.json import time_to_json
from mpdispatch.policy.names import shown

_BASICS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")
_LOCALE = "LC_"

_PATIENCE_S = {True: 0.1, False: 4.0}
"""From SIGTERM to SIGKILL: after a timeout (the supervisor allows 0.3 s), and otherwise (5 s)."""


# ---------------------------------------------------------------- where it is enqueued


def environment_of(environ: Mapping[str, str], chosen: Iterable[str]) -> dict[str, str]:
    """The environment of a command job: the basics of this one, and the chosen variables (`NAME`, `NAME=VALUE`).

    The basics are PATH, HOME, USER, LOGNAME, SHELL, LANG, LANGUAGE, LC_*, TZ and TMPDIR.

    Raises UsageError: a chosen variable is not set, or is no name.
    """
    taken = {n: v for n, v in environ.items() if n in _BASICS or n.startswith(_LOCALE)}
    for choice in chosen:
        name, sign, value = choice.partition("=")
        if not name or "\0" in choice:
            raise UsageError(f"--env: {shown(choice)} is neither NAME nor NAME=VALUE")
        if not sign and name not in environ:
            raise UsageError(f"--env: {name} is not set here; give it a value: --env {name}=...")
        taken[name] = value if sign else environ[name]
    return taken


def payload_of(argv: Sequence[str], *, cwd: str, env: Mapping[str, str], max_bytes: int) -> bytes:
    """The payload of a command job.

    Raises PayloadError: it is larger than `max_bytes`, or holds text that is no Unicode.
    """
    try:
        payload = msgspec.json.encode(Command(argv=list(argv), cwd=cwd, env=dict(env)))
    except UnicodeEncodeError as error:
        fault = Fault("", f"an argument, the folder or a variable is no valid UTF-8: {shown(error.object)}")
        raise PayloadError(COMMAND_JOB, [fault]) from error
    if len(payload) > max_bytes:
        text = f"the command is {len(payload):,} bytes of JSON, at most {max_bytes:,} are allowed (max_payload_bytes)"
        raise PayloadError(COMMAND_JOB, [Fault("argv", text)])
    return payload


def why_not_there(program: str, *, cwd: str, path: str | None) -> str | None:
    """Why a command with this program cannot be started; None: it can be."""
    if not os.path.isdir(cwd):
        return f"there is no folder {cwd!r} to run it in"
    if "/" not in program:
        if shutil.which(program, path=path or os.defpath) is None:
            return f"there is no program {program!r} on PATH"
        return None
    full = os.path.join(cwd, program)
    if not os.path.exists(full):
        return f"there is no program {program!r}"
    if os.path.isdir(full) or not os.access(full, os.X_OK):
        return f"{program!r} is no program that may be executed"
    return None


# ---------------------------------------------------------------- in the worker


def run_command(
    argv: list[str],
    cwd: str,
    env: dict[str, str] | None,
    spool: str | None = None,
    is_bytes: bool = False,
) -> dict[str, Any]:
    """The built-in handler of command jobs: runs the program to its end. The arguments are the fields of `Command`.

    Raises CommandFailedError: it cannot be started, exits with another status than 0, or a signal ended it.
    """
    context = current_job()
    if is_bytes:
        argv, cwd, spool = list(map(_of_bytes, argv)), _of_bytes(cwd), spool and _of_bytes(spool)
    environment = _with_marks(env, context)
    if spool is None:
        return _report_output(argv, cwd, environment, context)
    return _spool_output(argv, cwd, environment, context, spool)


def _of_bytes(text: str) -> str:
    """As the file system has it: each character stands for a byte."""
    return os.fsdecode(text.encode("latin-1"))


def _with_marks(env: Mapping[str, str] | None, context: JobContext) -> dict[bytes, bytes]:
    """The environment of the program: the given one, or this worker's, and what tells of the job."""
    added = {"MPDISPATCH_JOB_ID": str(context.id), "MPDISPATCH_ATTEMPT": str(context.attempt)}
    if context.slot is not None:
        added["MPDISPATCH_SLOT"] = time_to_json(context.slot) or ""
    if env is None:
        return {**environment(), **_in_bytes(added)}
    if WORKER_VARIABLE in os.environ:  # by which a supervisor finds what a dead worker left running
        added[WORKER_VARIABLE] = os.environ[WORKER_VARIABLE]
    return _in_bytes({**env, **added})


def _in_bytes(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def _report_output(
    argv: Sequence[str], cwd: str, env: Mapping[bytes, bytes], context: JobContext
) -> dict[str, Any]:
    """Run the program, and report the end of what it writes while it runs."""
    process = start(argv, cwd, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    reader = PipeReader(process, context)
    try:
        code = _heard_to_its_end(process, reader)
    finally:
        reader.close()
    if code != 0:
        raise _failure(argv, code, reader.last_error_line())
    return {"exit_status": 0}


def _spool_output(
    argv: Sequence[str], cwd: str, env: Mapping[bytes, bytes], context: JobContext, folder: str
) -> dict[str, Any]:
    """Run the program with files of the folder as its stdout and stderr. Of a failed one they stay there."""
    spool = Spool(folder, context.id, context.fencing_token)
    try:
        process = start(argv, cwd, env, stdout=spool.stdout, stderr=spool.stderr)
        listener = EndListener(process)
        try:
            code = _heard_to_its_end(process, listener)
            if code == 0:
                return {"exit_status": 0, **spool.take()}
            raise _failure(argv, code, spool.last_error_line())
        except BaseException:
            for stream, text in spool.keep().items():
                context.write(stream, text, is_last=True)
            raise
        finally:
            listener.close()
    finally:
        spool.close()


def _heard_to_its_end(process: subprocess.Popen[bytes], listener: Listener) -> int:
    try:
        code = listener.read(None)
    except BaseException as error:
        end(process, listener, patience_s=_PATIENCE_S[isinstance(error, JobTimeout)])
        raise
    assert code is not None  # listening without a limit ends with the program
    return code


def _failure(argv: Sequence[str], code: int, detail: str) -> CommandFailedError:
    return CommandFailedError(
        argv[0],
        exit_status=code if code > 0 else None,
        signal=signal_name(-code) if code < 0 else None,
        detail=detail,
    )
