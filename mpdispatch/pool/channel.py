"""One message-preserving socket pair per worker; frames past 64 KiB travel as a sealed memfd. Both sides.

`settimeout` and O_NONBLOCK apply to the open file description, which the worker's end shares with our duplicate of it.
So both ends stay blocking, and the supervisor passes MSG_DONTWAIT with each call.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import sys
from collections.abc import Sequence

INLINE_MAX = 64 * 1024
EXIT_CHANNEL_LOST = 70
"""The exit status of a worker that lost its channel: a handler closed it, or the supervisor has ended."""
_LONGEST = INLINE_MAX + 1
FRAME_MAX = 80 * 1024 * 1024
"""Larger than any payload or result that we allow. A larger frame is junk, and no memory is allocated for it."""

_BUFFER_BYTES = 256 * 1024
_TYPE = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
_FD_BYTES = array.array("i").itemsize
_ANCILLARY = socket.CMSG_SPACE(4 * _FD_BYTES)
_BY_FD = b"@"
# Plain integers: combining IntFlags costs 1.4 µs, as much as the system call itself.
_WAIT = int(socket.MSG_NOSIGNAL) if hasattr(socket, "MSG_NOSIGNAL") else 0
_NO_WAIT = int(socket.MSG_DONTWAIT)
_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
_TRUNCATED = int(socket.MSG_TRUNC)
_LOST_DESCRIPTOR = int(socket.MSG_CTRUNC)
# What a handler execs must not inherit a frame.
_RECEIVE = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
# This process or the system has no free descriptor, memory or buffer at the moment. The peer is not at fault.
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS, errno.ENOSPC}


class ChannelBroken(Exception):
    """The peer has ended, or sent something that is no frame."""


def channel_pair() -> tuple[Channel, socket.socket]:
    """Our end and the worker's end of a new channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, _TYPE)
    for end in (ours, theirs):
        end.setblocking(True)  # see Channel
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return Channel(ours), theirs


class Channel:
    """One end of a pair. Frames are bytes; they arrive whole, in order, or not at all."""

    __slots__ = ("_socket",)

    def __init__(self, end: socket.socket) -> None:
        # An app may have set a default timeout for all sockets, by which an idle worker lost its channel.
        end.setblocking(True)
        self._socket = end

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes, *, wait: bool) -> bool:
        """Send one frame, not an empty one. False: nothing was sent, for the peer's buffer is full or this process
        has no descriptor left for a large frame (only with `wait=False`).

        Raises ChannelBroken: the peer is gone.
        """
        if not frame:
            raise ValueError("an empty frame cannot be told from a hang-up")
        flags = _WAIT if wait else _WAIT | _NO_WAIT
        try:
            if len(frame) <= INLINE_MAX:
                self._socket.send(frame, flags)
            else:
                self._send_by_fd(frame, flags)
        except BlockingIOError:
            return False
        except OSError as error:
            if not wait and error.errno in _SHORT:
                return False
            raise ChannelBroken(f"send: {error}") from error
        return True

    def receive(self, *, wait: bool) -> bytes | None:
        """The next frame; None: there is none now (only with `wait=False`).

        Raises ChannelBroken: the peer hung up, or sent something that is no frame.
        """
        try:
            flags = _RECEIVE if wait else _RECEIVE | _NO_WAIT
            frame, ancillary, flags, _ = self._socket.recvmsg(_LONGEST, _ANCILLARY, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelBroken(f"receive: {error}") from error
        if frame and not ancillary and frame != _BY_FD and not flags & _TRUNCATED:
            return frame
        return _read_by_fd(frame, flags, _descriptors(ancillary))

    def check(self) -> None:
        """Check that this end is still open, without reading from it.

        Raises ChannelBroken: its descriptor was closed, or is something else by now.
        """
        try:
            self._socket.recv(1, _PEEK)
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelBroken(f"receive: {error}") from error

    def has_frame(self, wait_s: float = 0.0) -> bool:
        """Whether there is a frame to receive, or a hang-up, within this time."""
        poll = select.poll()  # select() itself takes no descriptor past 1023
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))

    def send_with(self, frame: bytes, descriptors: Sequence[int], flags: int = _WAIT | _NO_WAIT) -> None:
        """Send a short frame with descriptors, by default without waiting. Raises OSError."""
        # Not socket.send_fds, which ignores its flags up to Python 3.12 and so would wait.
        rights = array.array("i", descriptors).tobytes()
        self._socket.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)

    def _send_by_fd(self, frame: bytes, flags: int) -> None:
        descriptor = _sealed(frame)
        try:
            self.send_with(_BY_FD, [descriptor], flags)
        finally:
            os.close(descriptor)


def _sealed(frame: bytes) -> int:
    if sys.platform == "linux":
        descriptor = os.memfd_create("mpdispatch-frame", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        import tempfile  # a MiB that only this needs

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        view = memoryview(frame)
        while view:
            view = view[os.write(descriptor, view) :]
        if sys.platform == "linux":
            import fcntl

            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % _FD_BYTES])
    return list(found)


def _read_by_fd(frame: bytes, flags: int, descriptors: list[int]) -> bytes:
    try:
        if not frame:
            raise ChannelBroken("the peer hung up")
        if flags & _TRUNCATED:
            raise ChannelBroken("a frame longer than the protocol allows")
        if flags & _LOST_DESCRIPTOR:
            raise ChannelBroken("a large frame was lost: too many descriptors open, or sent")
        if frame != _BY_FD or len(descriptors) != 1:
            raise ChannelBroken("a descriptor that belongs to no frame")
        size = os.fstat(descriptors[0]).st_size
        if size > FRAME_MAX:
            raise ChannelBroken(f"a frame of {size} bytes, past the limit of {FRAME_MAX}")
        data = os.pread(descriptors[0], size, 0)
        if len(data) != size:
            raise ChannelBroken("a frame cut short")
        if not data:
            raise ChannelBroken("an empty frame")
        return data
    except OSError as error:
        raise ChannelBroken(f"a descriptor that cannot be read: {error}") from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
