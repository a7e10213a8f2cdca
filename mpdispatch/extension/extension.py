"""The extension: an engine on a store of the application, whose routes and lifecycle it joins to the application's."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal, Self, cast

from mpdispatch.config import QueueConfig
from mpdispatch.configfile import effective
from mpdispatch.dispatcher import Dispatcher
from mpdispatch.engine import Engine
from mpdispatch.engine.settings import EngineSettings, gathered, listed
from mpdispatch.errors import ConfigError, Fault, StoreError, UsageError
from mpdispatch.execution.middleware import Middleware
from mpdispatch.execution.process_context import in_worker
from mpdispatch.extension.lifecycle import Lifecycle
from mpdispatch.extension.mounting import ASGIApp, Parts, mount
from mpdispatch.extension.resolution import resolve_store
from mpdispatch.extension.resources import as_resources
from mpdispatch.hooks import Extension
from mpdispatch.host.http_token import HttpToken
from mpdispatch.policy.backoff import BackoffSpec
from mpdispatch.policy.names import shown
from mpdispatch.store.contract import Store

_log = logging.getLogger("mpdispatch.extension")


class DispatchExtension:
    """mpdispatch for an application. Each option: this argument ▸ environment ▸ configuration file ▸ default.

        ext = DispatchExtension(store="jobs.db")

        @ext.engine.job
        def render(path: str) -> None: ...

        app = FastAPI()
        ext.install(app)

    Making one opens no store. Workers import the app to find its handlers. So a module must have the extension as an
    attribute, or all its handlers, middleware and extensions must be found in modules.

    Args:
        store: a store, a path or a URL. Without one: the grove database, the grove KV store, else memory (warns).
        concurrency, queues: and any other field of Config, by its name. Default: 10, `["default"]`.
        base_path: where the routes are mounted. Default: `/api/dispatch`.
        extensions, middleware, backoff, queue_configs, tracer_provider, meter_provider: as `Engine.build` has them.
        disable_routes: mount no routes. Default: False.
        disable_migrate: `start` neither creates nor migrates the store, but refuses one that is missing or old; an
            enqueue or a supervisor that comes before it still does both. Default: False.
        grove_database, grove_kv: the name of a resource to keep the jobs in; `""` is the default one; None: not asked.
        resources: where those are: a mapping of names, a callable `(kind, name) -> object | None` with kind
            `database` or `kv`, or an svcs container. Known are SQLAlchemy engines, sqlite3 connections, sqlite-utils
            databases, psycopg pools, redis and valkey clients, DSNs, and what `mpdispatch.stores` entry points open.
        config_file: the YAML file, instead of `MPDISPATCH_CONFIG` or a well-known one here.
        require_config: it is an error if there is none.
        supervise: `True`: this process does. `False`: it only enqueues. `"auto"` (default): one of all extensions on
            the store does, and none while another supervisor lives.
        token, auth, allow_anonymous: which requests are served: those with the token, those for which `auth(request)`
            (may be async) returns true, all. Without any of these: those with the store's own token (`mpdispatch token`
            prints it) from this machine.
        switch_to_wal: whether a database of the application is switched to write-ahead logging. Default: True.

    Raises ConfigError: names all faults of all of these.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        *,
        concurrency: int | Literal["auto"] | None = None,
        queues: Iterable[str] | None = None,
        base_path: str | None = None,
        extensions: Iterable[Extension] = (),
        middleware: Iterable[Middleware] = (),
        backoff: BackoffSpec | None = None,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        queue_configs: Iterable[QueueConfig | Mapping[str, Any]] | None = None,
        disable_routes: bool | None = None,
        disable_migrate: bool | None = None,
        grove_database: str | None = None,
        grove_kv: str | None = None,
        resources: Any = None,
        config_file: str | os.PathLike[str] | None = None,
        require_config: bool = False,
        supervise: bool | Literal["auto"] | None = None,
        token: str | None = None,
        auth: Callable[[Any], Any] | None = None,
        allow_anonymous: bool = False,
        switch_to_wal: bool | None = None,
        **config: Any,
    ) -> None:
        given = {
            "store": store,
            "concurrency": concurrency,
            "queues": queues,
            "base_path": base_path,
            "queue_configs": listed(queue_configs),
            "disable_routes": disable_routes,
            "disable_migrate": disable_migrate,
            "grove_database": grove_database,
            "grove_kv": grove_kv,
            "supervise": supervise,
            "switch_to_wal": switch_to_wal,
            **config,
        }
        explicit = {name: value for name, value in given.items() if value is not None}
        faults: list[Fault] = []
        with gathered(faults):
            self.settings = effective(
                explicit, env=os.environ, config_file=config_file, require_file=require_config
            )
        with gathered(faults):  # what only code can give
            parts = EngineSettings(
                backoff=backoff, queue_configs=(), middleware=middleware, extensions=extensions
            )
        faults += _access_faults(token, auth, allow_anonymous)
        if faults:
            raise ConfigError(faults)
        # Workers import the app as well, and the warning should come once.
        level = logging.DEBUG if in_worker() else logging.WARNING
        store_found = resolve_store(
            self.settings, as_resources(resources), lambda text: _log.log(level, "%s", text)
        )
        dispatcher = Dispatcher(store=store_found, config=self.settings.config)
        # So that a supervisor elsewhere can tell what the code says from what the environment and file say.
        dispatcher.origins = {name: self.settings.origins[name] for name in dispatcher.origins}
        self._engine = Engine.build(
            dispatcher,
            extensions=parts.extensions,
            middleware=parts.middleware,
            backoff=parts.backoff,
            queue_configs=self.settings.others["queue_configs"],
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
        )
        self._engine.file_crons = self.settings.file_crons
        self._access: dict[str, Any] = {"token": token, "auth": auth, "allow_anonymous": allow_anonymous}
        self._asks_own_token = token is None and auth is None and not allow_anonymous
        self._own_token = HttpToken(store_found)
        self._life = Lifecycle(
            self._engine,
            migrates=not self.settings.others["disable_migrate"],
            supervise=self.settings.others["supervise"],
            log=_log,
        )
        self._is_installed = False
        self._api: ASGIApp | None = None

    def __repr__(self) -> str:
        return f"<DispatchExtension at {self.base_path} on {self._engine.store.display}>"

    @property
    def engine(self) -> Engine:
        """The engine. It exists before `start()`, too."""
        return self._engine

    @property
    def store(self) -> Store:
        """The store of the jobs."""
        return self._engine.dispatcher.store

    @property
    def token(self) -> str | None:
        """The token that the routes require: `token=`, else the store's own. None: `auth=` or `allow_anonymous=True`.

        If the store has no token yet, one is made; the first call blocks on the disk.

        Raises StoreError: the store does not exist, or the token cannot be read or made.
        """
        if self._asks_own_token:
            return self._own_token.value()
        return cast(str | None, self._access["token"])

    @property
    def base_path(self) -> str:
        """Where the routes are mounted."""
        return str(self.settings.others["base_path"])

    # ---------------------------------------------------------------- by itself

    def start(self) -> None:
        """Migrate the store and, if this process should supervise, do so on a thread.

        Blocks until that is done. Sets no signal handler. Does nothing in a worker, which imports the app as well.

        Raises:
            StoreError: the store cannot be opened; or, with `disable_migrate`, is not there or old.
            AppReferenceError: workers could not find this extension; it is in no module.
            AppImportError: the app does not import in a worker.
            UsageError: it is started already.
        """
        self._life.start()
        if self._api is not None and self._asks_own_token and not in_worker():
            self._make_token()

    def _make_token(self) -> None:
        """Make the token now, so that `mpdispatch token` finds it. The app starts even if that fails."""
        try:
            self._own_token.value()
        except StoreError as error:
            _log.error("the HTTP API serves nobody yet", extra={"error": str(error)})
            return
        if not self.store.is_shared:  # `mpdispatch token` cannot read the memory of this process.
            _log.warning("the HTTP API asks for the token in %s", self._own_token.path)

    def stop(self, timeout: float | timedelta | str | None = None) -> None:
        """Stop supervising, as `Dispatcher.stop`, and close the store. The next use opens it again.

        Does nothing if not started.

        Raises DispatchError: what had ended the supervisor before, if an error did.
        """
        self._life.stop(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def health(self) -> dict[str, Any]:
        """The health: `status` is `ok` or `failing`, and `error` says why. Blocks; never raises a DispatchError.

        It is failing, too, if jobs wait and no supervisor lives that could run them (because one has died, or for 10 s).
        Other keys: `store`, `supervises` (this process does) and `supervisors` (how many of the store live).
        """
        return self._life.health()

    # ---------------------------------------------------------------- in an app

    def install(self, app: Any) -> None:
        """Mount the routes in a Starlette, FastAPI or Litestar app, and start and stop with it.

        Then `app.state.dispatch` is the engine, and so is `current_engine()` in its requests.

        Raises UsageError: it is installed already, the app is of another kind or has started, or routes are wanted and
        the `http` extra is missing.
        """
        if self._is_installed:
            raise UsageError("this extension is installed already; an extension has one app")
        self._is_installed = True
        if in_worker():
            # A worker serves no requests, and does not import what serving needs.
            if hasattr(app, "state"):
                app.state.dispatch = self._engine
            return
        api = None if self.settings.others["disable_routes"] else self.asgi_app
        mount(app, Parts(engine=self._engine, base_path=self.base_path, lifespan=self.lifespan, api=api))

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Inside it the extension is started: `FastAPI(lifespan=ext.lifespan)`, for apps that mount `asgi_app`."""
        if app is not None and hasattr(app, "state"):
            app.state.dispatch = self._engine
        # On a thread: both wait for processes, and must not block the app's event loop.
        await asyncio.to_thread(self.start)
        try:
            yield
        finally:
            await asyncio.to_thread(self.stop)

    @property
    def asgi_app(self) -> ASGIApp:
        """The routes as an ASGI app, with no prefix: `install` mounts it at `base_path`.

        Raises UsageError: the `http` extra is missing.
        """
        if self._api is None:
            try:
                from mpdispatch.web import Access, web_app
            except ImportError as error:
                missing = (error.name or "").partition(".")[0]
                if missing == "mpdispatch":
                    raise
                raise UsageError(
                    f"the routes need {missing}: pip install 'mpdispatch[http]', or disable_routes=True"
                ) from error
            access = Access(own_token=self._own_token, **self._access)
            self._api = web_app(self._engine, access, health=self.health, lifespan=self.lifespan)
        return self._api


def _access_faults(token: object, auth: object, allow_anonymous: object) -> list[Fault]:
    faults = []
    # An unset variable gives an empty token, which must not let everybody in.
    if token is not None and not (
        isinstance(token, str) and token.isascii() and token.strip() == token and token
    ):
        faults.append(Fault("token", "must be ASCII text, not empty and without blanks around it"))
    if auth is not None and not callable(auth):
        faults.append(Fault("auth", f"must be a function of the request, not {shown(auth)}"))
    # A variable may give "no" or "0", which are true as text and must not let everybody in either.
    if not isinstance(allow_anonymous, bool):
        faults.append(Fault("allow_anonymous", f"must be True or False, not {shown(allow_anonymous)}"))
    return faults
