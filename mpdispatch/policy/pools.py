"""Where jobs run: in processes of this machine, or on a cluster. Pure: no I/O."""

from __future__ import annotations

import re

from mpdispatch.errors import UsageError
from mpdispatch.policy.names import shown

PROCESSES = "processes"
"""The pool of worker processes, which the supervisor starts."""
MOST_OF_CLUSTER = 1000
"""Most jobs at once on a cluster, if no number is given."""

_SCHEMES = {"dask": "tcp", "dask+tls": "tls"}
_DEFAULT_PORT = 8786
_CLUSTER = re.compile(r"(dask|dask\+tls)://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?")

NOT_PROMISED = (
    "a hard end: a job that goes on after its timeout or cancel is ended by killing its dask worker, with all else that"
    " runs there. If that has no nanny, or the nanny does not answer, the job may go on while it runs again elsewhere",
    "an end with the supervisor: if this or the dask scheduler dies, a handler gets JobCancelled, and one that does not"
    " end may go on while its job runs again",
    "a clean process: what a handler started or changed there stays",
    "new code: a dask worker keeps the app as it has imported it; restart the cluster after a deployment",
    "exact resources: cpu_s and max_rss_bytes are those of the dask worker with all that runs there",
    "safety from those who reach the scheduler: they may run any code, so keep it to yourselves, or use dask+tls://",
)
"""What holds for worker processes and not on a cluster. Outcomes are recorded exactly once all the same."""


def is_cluster(pool: str) -> bool:
    """Whether this pool is a cluster's."""
    return pool != PROCESSES


def read_pool(value: object, is_text: bool) -> str:
    """How the setting is read.

    >>> read_pool("dask://scheduler", False)
    'dask://scheduler:8786'

    Raises UsageError.
    """
    if value == PROCESSES:
        return PROCESSES
    found = _CLUSTER.fullmatch(value) if isinstance(value, str) else None
    port = int(found[3] or _DEFAULT_PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise UsageError(
            f"must be {PROCESSES!r}, or the scheduler of a dask cluster as dask://HOST:8786 or dask+tls://HOST:8786,"
            f" not {shown(value)}"
        )
    return f"{found[1]}://{found[2]}:{port}"


def scheduler_of(pool: str) -> str:
    """The address of the scheduler, as dask has it.

    >>> scheduler_of("dask+tls://scheduler:8786")
    'tls://scheduler:8786'
    """
    scheme, _, place = pool.partition("://")
    return f"{_SCHEMES[scheme]}://{place}"


def app_with_pool(app: str, pool: str) -> str:
    """How a supervisor registers its app and its pool, in one text, because only one column is there for both.

    >>> app_with_pool("shop:engine", "dask://scheduler:8786")
    'shop:engine on dask://scheduler:8786'
    """
    return f"{app} on {pool}" if is_cluster(pool) else app


def pool_in(app: str) -> tuple[str, str]:
    """The app and the pool in such a text.

    >>> pool_in("shop:engine on dask://scheduler:8786"), pool_in("shop:engine")
    (('shop:engine', 'dask://scheduler:8786'), ('shop:engine', 'processes'))
    """
    name, _, pool = app.rpartition(" on ")
    return (name, pool) if _CLUSTER.fullmatch(pool) else (app, PROCESSES)
