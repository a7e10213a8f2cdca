"""The supervisor of `map`: a thread of this process, which runs the command jobs of one queue and of no other."""

from __future__ import annotations

import logging

from mpdispatch.cli.map.ends import HOOK, EndQueue
from mpdispatch.config import Config
from mpdispatch.execution.app_reference import reference_to
from mpdispatch.execution.catalog import DescribedCatalog
from mpdispatch.handlers.description import describe
from mpdispatch.handlers.registry import Registry
from mpdispatch.pool.exec import EarlyZygote
from mpdispatch.store.contract import Store
from mpdispatch.supervisor import Plan, SupervisorThread

NO_APP = "mpdispatch.execution.empty_app:app"
"""An app without handlers, which runs command jobs only."""


def supervisor_of(
    store: Store, config: Config, ends: EndQueue, log: logging.Logger, zygote: EarlyZygote | None
) -> SupervisorThread:
    """A supervisor of the queues of this configuration that runs command jobs and tells `ends` of their ends."""
    nothing = describe(Registry(), store=store, config=config)
    plan = Plan(
        store=store,
        config=config,
        catalog=DescribedCatalog(nothing, allow_commands=True),
        hooks=frozenset({HOOK}),
        notice_queue=ends,
    )
    return SupervisorThread(reference_to(NO_APP), plan, log=log, owns_process=True, zygote=zygote)
