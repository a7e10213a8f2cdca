"""Calls that may wait for the disk or a lock, made from async code without holding up its event loop.

A few threads of our own, not the loop's: a store that is busy for seconds must not use up the threads that the
application's own `asyncio.to_thread` calls run on. Each thread keeps its connection to a store's file.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from mpdispatch.execution.jobcontext import OWN_THREADS

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["offload", "offload_read"]

P = ParamSpec("P")
R = TypeVar("R")

_THREADS = {"read": 2, "write": 4}

_lock = threading.Lock()
_pools: dict[str, ThreadPoolExecutor] = {}


async def offload_read(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """As `offload`, for what only reads: it does not stand in line behind writers that wait for a lock."""
    return await _call(_threads("read"), functools.partial(function, *args, **kwargs))


async def offload(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """What the function returns, called on another thread with the context variables of the caller.

    A caller that is cancelled waits no longer; the call itself goes on to its end.
    """
    return await _call(_threads("write"), functools.partial(function, *args, **kwargs))


async def _call(threads: ThreadPoolExecutor, call: Callable[[], R]) -> R:
    # Imported here, because a worker imports this module and most need no asyncio. Async code has it loaded.
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(threads, contextvars.copy_context().run, call)


def _threads(kind: str) -> ThreadPoolExecutor:
    with _lock:
        if kind not in _pools:
            from concurrent.futures import ThreadPoolExecutor

            _pools[kind] = ThreadPoolExecutor(_THREADS[kind], thread_name_prefix=OWN_THREADS)
        return _pools[kind]


def _forget() -> None:
    """In a forked child: the threads are not there, and the lock may be held by one of them."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
