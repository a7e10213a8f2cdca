"""A supervisor on a thread of the caller's process. Effects."""

from __future__ import annotations

import logging
import threading
from collections import deque

from mpdispatch.errors import DispatchError
from mpdispatch.execution.app_reference import AppReference
from mpdispatch.host.linux import become_subreaper
from mpdispatch.pool.exec import EarlyZygote
from mpdispatch.supervisor.plan import Plan
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import RunReport
from mpdispatch.supervisor.startup import run


class SupervisorThread:
    """Runs a supervisor on a thread of the process that has the app: no signal handlers.

    `owns_process`: all children of this process are ours, so orphans may be adopted and killed (see `run_foreground`);
    `zygote` is then one that was started before.
    """

    def __init__(
        self,
        app: AppReference,
        plan: Plan,
        *,
        log: logging.Logger,
        owns_process: bool = False,
        zygote: EarlyZygote | None = None,
    ) -> None:
        self._app, self._plan, self._log = app, plan, log
        self._owns_process, self._zygote = owns_process, zygote
        self._is_decided = threading.Event()
        """Set once the supervisor is up, or has ended before that."""
        self._is_up = False
        self._error: BaseException | None = None
        self._runtime: Runtime | None = None
        self._stops: deque[float | None] = deque()
        """Stop requests not passed on to the stop signal yet, each with its timeout."""
        self._starter: int | None = None
        """The thread that is inside `start`."""
        self.report: RunReport | None = None
        self._thread = threading.Thread(target=self._main, name="mpdispatch-supervisor", daemon=True)

    def start(self) -> None:
        """Start the thread. Returns once it supervises, or has ended because it was stopped meanwhile.

        Raises the error that kept it from supervising. If the wait is interrupted (Ctrl-C), the supervisor is
        stopped.
        """
        self._starter = threading.get_ident()
        try:
            self._thread.start()
            self._is_decided.wait()
        except BaseException:
            self.ask_to_stop()
            if self._thread.is_alive():
                self._thread.join()
            self._is_decided.set()  # the thread may have failed to start
            raise
        finally:
            self._starter = None
        if not self._is_up:
            self._thread.join()
            if self._error is not None:
                raise self._error

    def ask_to_stop(self, timeout: float | None = None) -> None:
        """Request a stop, also while it starts. Any thread, any signal handler; never waits."""
        self._stops.append(timeout)
        self._pass_stops_on()

    def _pass_stops_on(self) -> None:
        # Called after a request is queued, and after the runtime is made, so that each request is passed on
        # exactly once.
        while self._runtime is not None:
            try:
                self._runtime.stop_signal.request(self._stops.popleft())
            except IndexError:
                return

    def stop(self, timeout: float | None = None) -> RunReport | None:
        """Stop and wait for the end. `timeout`: seconds running jobs may take (None: `shutdown_timeout`).

        In a signal handler that interrupted `start`, it does not wait; `start` does.

        Raises the error that ended the supervisor, if any.
        """
        self.ask_to_stop(timeout)
        if self._starter == threading.get_ident():
            return None
        return self.wait()

    def wait(self) -> RunReport | None:
        """Wait for the end, after `ask_to_stop`. Raises the error that ended the supervisor, if any."""
        self._is_decided.wait()
        if self._thread.is_alive():
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self.report

    @property
    def is_alive(self) -> bool:
        """Whether the supervisor has come up and not ended."""
        return self._is_up and self._thread.is_alive()

    def _main(self) -> None:
        try:
            self._runtime = self._assembled()
            try:
                self._pass_stops_on()
                self.report = run(self._runtime, self._app, self._plan, on_start=self._came_up)
            finally:
                self._runtime.close()
        except BaseException as error:  # noqa: BLE001 - handed to the caller of start() or stop()
            self._error = error
            if self._is_up or not isinstance(error, DispatchError):
                is_ours = not isinstance(error, DispatchError)
                self._log.critical(
                    "the supervisor ended: %s; jobs stay in the store and go on when one is started again%s",
                    error or type(error).__name__,
                    ". This is a bug of mpdispatch: please report the traceback" if is_ours else "",
                    exc_info=error if is_ours else None,
                )
        finally:
            self._is_decided.set()

    def _assembled(self) -> Runtime:
        if not self._owns_process:
            return Runtime.assemble(self._app, log=self._log, pool=self._plan.config.pool)
        become_subreaper()
        runtime = Runtime.assemble(
            self._app, log=self._log, is_subreaper=True, zygote=self._zygote, pool=self._plan.config.pool
        )
        runtime.pool.use(self._plan.config.start_method)
        runtime.pool.warm_up()
        return runtime

    def _came_up(self) -> None:
        self._is_up = True
        self._is_decided.set()
