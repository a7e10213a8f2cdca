"""Command jobs: a program instead of a handler. The first half runs where they are enqueued, `run_command` in the worker.

The program leads a process group of its own below the worker, and ends with its job. At a timeout or cancel the group
gets SIGTERM, and SIGKILL soon after. Processes that leave the group are found by the worker's mark in their environment.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mpdispatch.errors import CommandFailedError, Fault, JobTimeout, PayloadError, UsageError
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.process_context import current_job
from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.host.processes import signal_name
from mpdispatch.model import COMMAND_JOB, Command, Stream
from mpdispatch.model.json import time_to_json
from mpdispatch.policy.names import shown

_BASICS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")
_LOCALE = "LC_"

_READ_BYTES = 65536
_LOOK_S = 0.25
"""How often the program's end is looked for, in case no descriptor shows it; without pidfds five times as often."""
_DRAIN_BYTES = 4 << 20
"""The most that is read after the program's end from pipes that a process it left behind keeps open."""
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


def run_command(argv: list[str], cwd: str, env: dict[str, str]) -> dict[str, Any]:
    """The built-in handler of command jobs: runs the program to its end, and reports what it writes.

    Raises CommandFailedError: it cannot be started, exits with another status than 0, or a signal ended it.
    """
    context = current_job()
    added = {"MPDISPATCH_JOB_ID": str(context.id), "MPDISPATCH_ATTEMPT": str(context.attempt)}
    if context.slot is not None:
        added["MPDISPATCH_SLOT"] = time_to_json(context.slot) or ""
    if WORKER_VARIABLE in os.environ:  # by which a supervisor finds what a dead worker left running
        added[WORKER_VARIABLE] = os.environ[WORKER_VARIABLE]
    process = _start(argv, cwd, {**env, **added})
    reader = _PipeReader(process, context)
    try:
        code = reader.read(None)
    except BaseException as error:
        _end(process, reader, patience_s=_PATIENCE_S[isinstance(error, JobTimeout)])
        raise
    finally:
        reader.close()
    assert code is not None  # listening without a limit ends with the program
    if code != 0:
        raise CommandFailedError(
            argv[0],
            exit_status=code if code > 0 else None,
            signal=signal_name(-code) if code < 0 else None,
            detail=reader.last_error_line(),
        )
    return {"exit_status": 0}


def _start(argv: list[str], cwd: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    if not argv or not argv[0]:
        raise CommandFailedError("", exit_status=127, detail="there is no program to run")
    try:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.filename == cwd:
            detail = f"its folder {cwd} cannot be entered: {error.strerror}"
        elif isinstance(error, FileNotFoundError):
            detail = (
                "there is no such program on its PATH" if os.sep not in argv[0] else "there is no such file"
            )
        else:
            detail = getattr(error, "strerror", None) or str(error)
        # As in a shell: 127 is not found, 126 is found but cannot be run.
        status = 127 if isinstance(error, FileNotFoundError) else 126
        raise CommandFailedError(argv[0], exit_status=status, detail=detail) from None


def _end(process: subprocess.Popen[bytes], reader: _PipeReader, *, patience_s: float) -> None:
    """End the program and its process group. What it writes meanwhile is still reported."""
    _signal_group(process, signal.SIGTERM)
    # A stopped process handles SIGTERM only once it continues.
    _signal_group(process, signal.SIGCONT)
    reader.read(time.monotonic() + patience_s)
    _signal_group(process, signal.SIGKILL)
    reader.read(time.monotonic() + patience_s)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    # A group keeps its number while a member lives. macOS refuses groups of zombies (EPERM).
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


class _PipeReader:
    """Reads both pipes of the program, and sees its end."""

    def __init__(self, process: subprocess.Popen[bytes], context: JobContext) -> None:
        self._process, self._context = process, context
        self._selector = selectors.DefaultSelector()
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {}
        self._silent = {Stream.STDOUT, Stream.STDERR}
        self._last_error = ""
        for stream, pipe in ((Stream.STDOUT, process.stdout), (Stream.STDERR, process.stderr)):
            assert pipe is not None  # both are pipes
            os.set_blocking(pipe.fileno(), False)
            self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
            self._selector.register(pipe, selectors.EVENT_READ, stream)
        self._pidfd: int | None = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(process.pid)
                self._selector.register(self._pidfd, selectors.EVENT_READ)

    def read(self, until_s: float | None) -> int | None:
        """Report what the program writes until it ends; gives its exit code. None: it has not ended by `until_s`."""
        look_s = _LOOK_S if self._pidfd is not None else _LOOK_S / 5
        while (code := self._process.poll()) is None:
            left_s = look_s if until_s is None else min(look_s, until_s - time.monotonic())
            if left_s <= 0:
                return None
            for key, _ in self._selector.select(left_s):
                if key.data is not None:
                    self._read(key.fileobj, key.data)
        self._drain()
        return code

    def _drain(self) -> None:
        """Report what it wrote before its end, but not what a process that it left behind goes on writing."""
        for key in list(self._selector.get_map().values()):
            if key.data is None:
                continue
            left = _DRAIN_BYTES
            while left > 0 and (got := self._read(key.fileobj, key.data)):
                left -= got

    def _read(self, pipe: Any, stream: Stream) -> int:
        try:
            data = os.read(pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return 0
        text = self._decoders[stream].decode(data, final=not data)
        if not data:
            self._selector.unregister(pipe)
        if text:
            if stream is Stream.STDERR:
                self._last_error = (self._last_error + text)[-1000:]
            self._silent.discard(stream)
            self._context.write(stream, text)
        return len(data)

    def last_error_line(self) -> str:
        lines = self._last_error.split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        for stream in self._silent:
            self._context.write(stream, "")  # an unused stream is empty, not unknown
        self._selector.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
