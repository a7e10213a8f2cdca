"""The connection to a cluster: a thread with an asyncio loop and dask's client. Commands in, notices out.

Commands never wait, and may be given by one other thread. Notices lie in a queue, and a pipe is readable while there are
any. A lost scheduler is a notice; the thread connects again by itself, with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any

from distributed import Client

from mpdispatch.errors import PoolUnavailable
from mpdispatch.policy.pools import scheduler_of
from mpdispatch.pool.dask import remote
from mpdispatch.pool.dask.notices import Answered, Disconnected, Joined, Left, Notice, Reported, Revoked

_CONNECT_S = 10.0
_LOOK_S = 0.2
"""How often to look whether the scheduler is still there; nothing else says so."""
_MOST_PAUSE_S = 10.0
_END_S = 10.0
"""How long a dask worker that was killed may be listed by the scheduler."""
_TOLD_BYTES = 4 << 20
"""The scheduler keeps at most about so many bytes of what jobs have reported."""
_LOST = "scheduler-connection-lost"
"""Why dask cancels futures, if it does so for that; `Disconnected` follows."""
_SOON_S, _AGAIN_S = 0.02, 30.0
_LAST_S = 1.0
_ASK_S = 5.0
"""How long a dask worker may take to answer a call of its loop. It cannot while a handler holds the GIL."""


class Cluster:
    """One connection. `connect` first, `close` last."""

    def __init__(self, pool: str, log: logging.Logger) -> None:
        self._pool, self._address, self._log = pool, scheduler_of(pool), log
        self._topic = ""
        """Of the events by which jobs report to us: the client's id, because dask drops those when the client is gone."""
        self._told_bytes = 0
        """Of such events, since the scheduler was last asked to drop them."""
        self._notices: deque[Notice] = deque()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._loop = asyncio.new_event_loop()
        self._client: Any = None
        self._calls: set[asyncio.Task[None]] = set()
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}
        """Our calls that wait for a task of this dask worker."""
        self._known: set[str] = set()
        self._is_closing = False
        self._is_connected = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="mpdispatch-dask", daemon=True)

    # -- for the other thread ---------------------------------------------------------------------------

    def connect(self) -> None:
        """Wait for the scheduler, at most 10 s. Raises PoolUnavailable."""
        self._thread.start()
        self._is_connected.wait()
        if self._fault is not None:
            self.close()
            raise PoolUnavailable(
                self._pool, f"no dask scheduler answers at {self._address}: {_said(self._fault)}"
            ) from self._fault

    def fileno(self) -> int:
        """Readable while there are notices."""
        return self._reader

    def take(self) -> list[Notice]:
        """All notices, in order."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
        found = list[Notice]()
        while self._notices:
            found.append(self._notices.popleft())
        return found

    def boot(self, number: int, address: str, key: str, version: str, frame: bytes) -> None:
        """Have this dask worker import the app. `Answered` with this number follows, or `Left`, or `Disconnected`."""
        self._call(self._task(number, address, key, remote.boot, version, frame))

    def run(self, number: int, address: str, key: str, *arguments: str | bytes) -> None:
        """Have this dask worker run a job: the arguments of `remote.run`. Then as `boot`."""
        process, token, *rest = arguments
        self._call(self._task(number, address, key, remote.run, process, token, self._topic, key, *rest))

    def interrupt(self, address: str, token: str, job_id: int, starts: int, *, is_timeout: bool) -> None:
        """Raise in the handler of this start, if it runs."""
        self._call(self._ask(address, remote.interrupt, token, job_id, starts, is_timeout))

    def revoke(self, number: int, address: str, token: str, job_id: int, starts: int) -> None:
        """Keep this start from beginning. `Revoked` follows, unless the dask worker is gone before."""
        self._call(self._revoke(number, address, token, job_id, starts))

    def end(self, address: str) -> None:
        """End this dask worker's process with all that runs there. `Left` follows."""
        self._call(self._end(address))

    def close(self, *, wait_s: float = 3.0) -> None:
        """Disconnect. Dask forgets our tasks then, and jobs that still run notice it. Idempotent."""
        if not self._is_closing:
            self._is_closing = True
            if self._thread.is_alive():
                with contextlib.suppress(RuntimeError):  # its loop has just ended by itself
                    self._loop.call_soon_threadsafe(self._stop)
                self._thread.join(wait_s)
            if not self._thread.is_alive():  # else it may write yet, into whatever file has the number then
                os.close(self._reader)
                os.close(self._writer)

    def _call(self, call: Coroutine[Any, Any, None]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._begin, call)
        except RuntimeError:  # the thread has ended, which is a notice
            call.close()

    # -- in the thread ------------------------------------------------------------------------------------

    def _begin(self, call: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _forget(self, client: Any) -> None:
        with contextlib.suppress(Exception):  # it keeps some more then
            await client.run_on_scheduler(remote.forget, self._topic)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits, or as a notice
            if not self._is_connected.is_set():
                self._fault = error
            self._note(Disconnected(_said(error)))
        finally:
            self._is_connected.set()
            with contextlib.suppress(Exception):  # what does not end by then ends with the loop
                self._loop.run_until_complete(_ended(asyncio.all_tasks(self._loop)))
            self._loop.close()

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            if task.get_name() == "serve":
                task.cancel()

    async def _serve(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("serve")
        pause_s = 0.1
        while not self._is_closing:
            try:
                await self._connected()
                pause_s = 0.1
            except asyncio.CancelledError:
                return
            except Exception as error:
                if not self._is_connected.is_set():
                    raise
                self._log.debug("cannot reach the dask scheduler", extra={"error": _said(error)})
            try:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            except asyncio.CancelledError:
                return
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)

    async def _connected(self) -> None:
        """Connect, and watch until the scheduler is lost. Raises what keeps us from it."""
        made: Any = Client
        client = await made(
            self._address, asynchronous=True, timeout=_CONNECT_S, name="mpdispatch", set_as_default=False
        )
        try:
            self._client, self._topic = client, client.id
            client.subscribe_topic(self._topic, self._reported)
            client.subscribe_topic("all", self._changed)
            for address in await client.nthreads():
                self._join(address)
            self._is_connected.set()
            comm = client.scheduler_comm
            while client.status == "running" and client.scheduler_comm is comm and not comm.closed():
                await asyncio.sleep(_LOOK_S)
            self._known.clear()
            for task in [each for tasks in self._tasks.values() for each in tasks]:
                task.cancel()
            self._tasks.clear()
            self._note(Disconnected("the connection to the dask scheduler was lost"))
        finally:
            self._client = None
            for topic in (self._topic, "all"):
                with contextlib.suppress(Exception):
                    client.unsubscribe_topic(topic)  # or it would be told of its own end, and dask complain
            with contextlib.suppress(Exception), _quiet():
                await asyncio.wait_for(client.close(timeout=1), 2)

    def _note(self, notice: Notice) -> None:
        self._notices.append(notice)
        with contextlib.suppress(BlockingIOError, OSError):  # full: it is readable
            os.write(self._writer, b"!")

    def _reported(self, event: tuple[float, Any]) -> None:
        frame = event[1]
        if not isinstance(frame, bytes):
            return  # dask tells there what the client does
        self._note(Reported(frame))
        self._told_bytes += len(frame)
        if self._told_bytes > _TOLD_BYTES and self._client is not None:
            self._told_bytes = 0
            self._begin(self._forget(self._client))

    def _changed(self, event: tuple[float, Any]) -> None:
        match event[1]:
            case {"action": "add-worker", "worker": str(address)}:
                self._join(address)
            case {"action": "remove-worker", "worker": str(address)}:
                self._leave(address, "left the cluster")

    def _join(self, address: str) -> None:
        if address not in self._known:
            self._known.add(address)
            self._note(Joined(address))

    def _leave(self, address: str, why: str) -> None:
        if address in self._known:
            self._known.discard(address)
            self._note(Left(address, why))
            # Dask would run its tasks on the next process with this address, and without one wait for it.
            for task in self._tasks.pop(address, ()):
                task.cancel()

    async def _task(self, number: int, address: str, key: str, function: Any, *arguments: Any) -> None:
        """Submit a task that only this dask worker may run, and note its answer."""
        client, task = self._client, asyncio.current_task()
        assert task is not None
        try:
            if client is None or address not in self._known:
                raise ConnectionError("it is not in the cluster any more")
            self._tasks.setdefault(address, set()).add(task)
            future = client.submit(
                function, *arguments, key=key, workers=[address], allow_other_workers=False, pure=False
            )
            self._note(Answered(number, bytes(await future)))
        except asyncio.CancelledError:
            pass  # its dask worker is gone, or the scheduler, or we are: another notice says so
        except Exception as error:  # noqa: BLE001 - of any kind: dask raises what its workers raise
            if getattr(error, "reason", "") != _LOST:
                self._note(Answered(number, b"", _said(error)))
        finally:
            self._tasks.get(address, set()).discard(task)

    async def _ask(self, address: str, function: Any, *arguments: Any, in_nanny: bool = False) -> Any:
        """Call a function on the loop of a dask worker, or of its nanny. None: it did not answer."""
        if (client := self._client) is None:
            return None
        try:
            call = client.run(function, *arguments, workers=[address], nanny=in_nanny, on_error="raise")
            return (await asyncio.wait_for(call, _ASK_S)).get(address)
        except Exception as error:  # noqa: BLE001 - of any kind: dask raises what its workers raise
            self._log.debug("a dask worker does not answer", extra={"worker": address, "error": _said(error)})
            return None

    async def _revoke(self, number: int, address: str, token: str, job_id: int, starts: int) -> None:
        answer = await self._ask(address, remote.revoke, token, job_id, starts)
        self._note(Revoked(number, answer is True))

    async def _end(self, address: str) -> None:
        is_killed = await self._ask(address, remote.kill, in_nanny=True)
        if not is_killed and (client := self._client) is not None:
            # It has no nanny, or that does not answer: the scheduler may do something.
            try:
                call = client.restart_workers([address], timeout=_END_S, raise_for_error=False)
                await asyncio.wait_for(call, _END_S)
                is_killed = True
            except Exception as error:  # noqa: BLE001 - of any kind, as above
                self._log.debug(
                    "cannot restart a dask worker", extra={"worker": address, "error": _said(error)}
                )
        until_s = self._loop.time() + (_END_S if is_killed else 0)
        while address in self._known and self._loop.time() < until_s:
            await asyncio.sleep(_SOON_S)
        if address in self._known:
            self._log.warning(
                "a dask worker cannot be ended; what it runs may go on", extra={"worker": address}
            )
            self._leave(address, "could not be ended")
            await asyncio.sleep(_AGAIN_S)  # it may have become idle by then; if not, it refuses the next job
            if self._client is not None and address in await self._client.nthreads():
                self._join(address)


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_LAST_S)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside it, dask's client does not log that the scheduler is lost, which we have said."""
    log = logging.getLogger("distributed.client")
    log.addFilter(_nothing)
    try:
        yield
    finally:
        log.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
