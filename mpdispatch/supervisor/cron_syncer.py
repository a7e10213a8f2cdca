"""Brings the cron entries of the store up to date with what an app and files declare. Effects: the store, the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mpdispatch.errors import ConfigError
from mpdispatch.handlers.crons import new_cron
from mpdispatch.model import CronSync, DeclaredCrons
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.runtime import Runtime


class CronSyncer:
    """A part of the duty `Crons`, which runs it before it looks at entries."""

    def __init__(
        self,
        runtime: Runtime,
        store: SupervisorStore,
        declared: Callable[[], tuple[DeclaredCrons, ...]],
        *,
        app: str,
    ) -> None:
        """`declared` gives the same tuple until there is something new; an app may declare more while it runs."""
        self._clock, self._log, self._repeats = runtime.clock, runtime.log, runtime.repeats
        self._store, self._declared, self._app = store, declared, app
        self._synced: tuple[DeclaredCrons, ...] | None = None

    def run(self, began_us: int) -> None:
        """Sync what is declared and was not at the last call. `began_us`: the start of the supervisor (wall time).

        Raises StoreError.
        """
        try:
            declared = self._declared()
        except ConfigError as error:
            facts = {"error": str(error)}
            self._repeats.log("crons", logging.ERROR, "cron entries do not fit the app", extra=facts)
            return
        if declared is self._synced:
            return
        # The slot of `@startup` is the start.
        until_us = began_us - 1 if self._synced is None else self._clock.now().wall_us
        for each in declared:
            if each not in (self._synced or ()):
                self._sync(each, until_us)
        self._synced = declared

    def _sync(self, declared: DeclaredCrons, until_us: int) -> None:
        app = declared.app or self._app
        entries = [new_cron(spec, declared.origin, app, until_us) for spec in declared.specs]
        self._report(self._store.crons.sync(declared.origin, app, entries), app)

    def _report(self, result: CronSync, app: str) -> None:
        if result.added or result.changed:
            names = {"added": ", ".join(result.added), "changed": ", ".join(result.changed)}
            self._log.info("brought the cron entries of %s up to date", app, extra=names)
        for name in result.orphaned:
            self._log.warning("cron entry %s fires no more: %s does not declare it any more", name, app)
        for name in result.taken:
            self._log.error(
                "cron entry %s of %s is not made: there is another one of that name; `mpdispatch cron remove %s`"
                " removes it",
                name,
                app,
                name,
            )
