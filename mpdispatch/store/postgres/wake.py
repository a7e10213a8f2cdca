"""Wake-ups by NOTIFY: supervisors of all hosts hear of new jobs, waiting clients of ended ones. Effects: a thread.

All listeners of a process share one connection, on which a thread listens. It is opened with the first listener, opened
again once it was lost – everybody is woken then, for what was missed meanwhile – and closed some time after the last one.
Behind a proxy that pools transactions there is no LISTEN: supervisors and clients poll.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time

import psycopg

from mpdispatch.errors import DispatchError
from mpdispatch.store.postgres import migration
from mpdispatch.store.postgres.patience import Patience
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.sessions import ClientSessions
from mpdispatch.store.postgres.wire import Wire

WORK, ENDS = "work", "ends"
_LINGERS_S = 10.0
"""So long the connection is kept without a listener: a client that waits for one job after the other needs it again."""
_ANSWER_S = 10.0
_FOR_EVER_S = 365 * 86_400.0


class Listener:
    """The end of a pipe that becomes readable with each wake-up of its kind."""

    def __init__(self, hub: Hub, kind: str) -> None:
        self._hub, self.kind = hub, kind
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self.write_fd, False)

    def fileno(self) -> int:
        return self._read_fd

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._read_fd, 4096)) == 4096:
                pass

    def is_in_place(self) -> bool:
        """Whether wake-ups reach it, or will once the server is there again."""
        return self._hub.has(self)

    def close(self) -> None:
        """Wake-ups of this kind go elsewhere from now on."""
        if self._read_fd >= 0:
            self._hub.remove(self)
            os.close(self._read_fd)
            os.close(self.write_fd)
            self._read_fd = self.write_fd = -1


class Hub:
    """The thread that listens for all listeners of this process. Any thread; a forked child needs one of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kinds = {database.place.options.channel(kind): kind for kind in (WORK, ENDS)}
        self._changed = threading.Lock()
        self._listeners = set[Listener]()
        self._to_send = set[str]()
        self._thread: threading.Thread | None = None
        self._poke_fds: tuple[int, int] | None = None
        self._alone_since_s = 0.0
        self.pid = os.getpid()

    def add(self, kind: str) -> Listener:
        """A new listener. Raises OSError, RuntimeError: no descriptor or no thread is to be had."""
        listener = Listener(self, kind)
        try:
            with self._changed:
                self._start()
                self._listeners.add(listener)
        except BaseException:
            listener.close()
            raise
        return listener

    def has(self, listener: Listener) -> bool:
        return listener in self._listeners and self.pid == os.getpid()

    def remove(self, listener: Listener) -> None:
        if self.pid != os.getpid():
            return
        with self._changed:
            self._listeners.discard(listener)
            self._alone_since_s = time.monotonic()

    def send(self, channel: str) -> bool:
        """NOTIFY this channel on its thread. False: it does not run."""
        with self._changed:
            if self._thread is None:
                return False
            self._to_send.add(channel)
            self._poke()
            return True

    def stop(self) -> None:
        """End the thread if nobody listens; the next listener starts one again."""
        with self._changed:
            if not self._listeners:
                self._alone_since_s = 0.0
                self._poke()

    def _start(self) -> None:
        if self._thread is not None:
            return
        self._poke_fds = os.pipe()
        os.set_blocking(self._poke_fds[1], False)
        self._thread = threading.Thread(target=self._main, name="mpdispatch-listen", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        """The thread is over. Under the lock."""
        self._thread = None
        if self._poke_fds is not None:
            for each in self._poke_fds:
                os.close(each)
            self._poke_fds = None

    def _poke(self) -> None:
        if self._poke_fds is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._poke_fds[1], b"!")

    # -- on the thread --------------------------------------------------------------------------

    def _main(self) -> None:
        patience = Patience(_FOR_EVER_S)
        while not self._is_over():
            try:
                wire = self._listening()
                if wire is None:
                    self._give_up()
                    continue
                try:
                    patience = Patience(_FOR_EVER_S)
                    self._wake(set(self._kinds.values()))
                    self._hear(wire)
                finally:
                    wire.close()
            except (psycopg.Error, DispatchError):
                patience.pause()  # the server went away, and may be back

    def _is_over(self) -> bool:
        """Whether nobody has listened for some time; then the thread ends."""
        with self._changed:
            if self._listeners or time.monotonic() < self._alone_since_s + _LINGERS_S:
                return False
            self._end()
            return True

    def _listening(self) -> Wire | None:
        """A connection that listens. None: there is a proxy that pools transactions. Raises psycopg.Error, StoreError."""
        wire = self._database.wire(patience_s=_ANSWER_S)
        try:
            server = migration.look(wire, self._database.place.options)
            self._database.is_proxied = server.is_proxied
            if server.is_proxied:
                wire.close()
                return None
            wire.exchange("".join(f"LISTEN {channel};" for channel in self._kinds).encode())
        except BaseException:
            wire.close()
            raise
        return wire

    def _give_up(self) -> None:
        with self._changed:
            self._listeners.clear()
            self._alone_since_s = 0.0
        # Their owners look whether they are in place once nothing has come for some time.

    def _hear(self, wire: Wire) -> None:
        """Pass wake-ups on until the thread is over. Raises psycopg.Error: the connection was lost."""
        pgconn = wire.raw.pgconn
        assert self._poke_fds is not None
        poke_fd = self._poke_fds[0]
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        poll.register(poke_fd, select.POLLIN)
        while not self._is_done():
            heard = {fd for fd, _ in poll.poll(_LINGERS_S * 1000)}
            if poke_fd in heard:
                os.read(poke_fd, 4096)
                self._send(wire)
            if pgconn.socket in heard:
                pgconn.consume_input()
            kinds = set[str]()
            while (notice := pgconn.notifies()) is not None:
                if kind := self._kinds.get(notice.relname.decode()):
                    kinds.add(kind)
            self._wake(kinds)

    def _is_done(self) -> bool:
        with self._changed:
            return not self._listeners and time.monotonic() >= self._alone_since_s + _LINGERS_S

    def _send(self, wire: Wire) -> None:
        with self._changed:
            channels, self._to_send = self._to_send, set[str]()
        if channels:
            wire.until_s = time.monotonic() + _ANSWER_S
            wire.exchange("".join(f"NOTIFY {channel};" for channel in sorted(channels)).encode())

    def _wake(self, kinds: set[str]) -> None:
        if not kinds:
            return
        with self._changed:
            for each in self._listeners:
                if each.kind in kinds:
                    with contextlib.suppress(BlockingIOError):  # it is full, and so readable
                        os.write(each.write_fd, b"!")


class PostgresWake:
    """Tells supervisors at once that there may be work, and waiting clients that jobs have ended; on all hosts."""

    def __init__(self, database: Database, sessions: ClientSessions) -> None:
        self._database, self._sessions = database, sessions
        options = database.place.options
        self.work_channel, self.ends_channel = options.channel(WORK), options.channel(ENDS)
        self._hub = Hub(database)

    def _ours(self) -> Hub:
        if self._hub.pid != os.getpid():
            self._hub = Hub(self._database)
        return self._hub

    def notify(self) -> None:
        """Wake all supervisors. A hint: waits for no answer, never raises, may be lost."""
        self._notify(self.work_channel)

    def notify_of_ends(self) -> None:
        """Wake all clients that wait for jobs to end."""
        self._notify(self.ends_channel)

    def _notify(self, channel: str) -> None:
        if not self._sessions.notify(channel, opens=False) and not self._ours().send(channel):
            self._sessions.notify(channel, opens=True)

    def listen(self, owner: int) -> Listener | None:
        """A listener for the supervisor with this id; None: not possible here, so the supervisor polls."""
        return self._listener(WORK)

    def listen_for_ends(self) -> Listener | None:
        """A listener for one client that waits; None: not possible here, so the client polls."""
        return self._listener(ENDS)

    def _listener(self, kind: str) -> Listener | None:
        if self._database.is_proxied:
            return None
        try:
            return self._ours().add(kind)
        except (OSError, RuntimeError):
            return None  # no descriptor, no thread

    def close(self) -> None:
        """Close the connection, if nobody listens; the next listener opens it again."""
        if self._hub.pid == os.getpid():
            self._hub.stop()
