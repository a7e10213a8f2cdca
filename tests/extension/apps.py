"""Test apps: the same one for each framework. Handlers of an app run in workers that import its module."""

_HANDLERS = """
    import os, signal
    from mpdispatch import current_engine, current_job
    from mpdispatch.extension import DispatchExtension, get_engine

    ext = DispatchExtension(store="jobs.db", concurrency=2)

    @ext.engine.job
    def render(path: str) -> dict:
        assert current_engine() is ext.engine
        return {"path": path, "pid": os.getpid()}

    @ext.engine.job(max_retries=0)
    def nap(seconds: float) -> None:
        import time
        time.sleep(seconds)

    def facts() -> dict:
        assert current_engine() is ext.engine
        names = ("SIGTERM", "SIGINT", "SIGCHLD", "SIGHUP", "SIGALRM")
        handlers = {name: repr(signal.getsignal(getattr(signal, name))) for name in names}
        import ctypes
        subreaper = ctypes.c_int()
        ctypes.CDLL(None).prctl(37, ctypes.byref(subreaper), 0, 0, 0)
        return {"pid": os.getpid(), "handlers": handlers, "is_subreaper": bool(subreaper.value)}
"""

STARLETTE = (
    _HANDLERS
    + """
    from contextlib import asynccontextmanager
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route

    async def ping(request):
        assert request.app.state.dispatch is current_engine()
        return JSONResponse(facts())

    def order(request):  # on a thread
        job = current_engine().enqueue("render", path=request.path_params["path"])
        return JSONResponse({"id": job.id, "pid": os.getpid()}, 201)

    @asynccontextmanager
    async def lifespan(app):
        print("mine begins", app.state.dispatch.stats()["supervisors"], flush=True)
        yield {"shop": "open"}
        print("mine ends", ext.health()["supervises"], flush=True)

    async def nowhere(scope, receive, send):
        await JSONResponse({"by": "the app's own catch-all"}, 404)(scope, receive, send)

    app = Starlette(
        routes=[Route("/ping", ping), Route("/orders/{path}", order, methods=["POST"]), Mount("/", nowhere)],
        lifespan=lifespan,
    )
    ext.install(app)
"""
)

FASTAPI = (
    _HANDLERS
    + """
    from contextlib import asynccontextmanager
    from fastapi import Depends, FastAPI, Request
    from mpdispatch import Engine

    @asynccontextmanager
    async def lifespan(app):
        print("mine begins", app.state.dispatch.stats()["supervisors"], flush=True)
        yield
        print("mine ends", ext.health()["supervises"], flush=True)

    app = FastAPI(lifespan=lifespan)
    ext.install(app)

    @app.get("/ping")
    async def ping(request: Request):
        assert request.app.state.dispatch is current_engine()
        return facts()

    @app.post("/orders/{path}", status_code=201)
    def order(path: str, engine: Engine = Depends(get_engine)):
        assert engine is current_engine()
        return {"id": engine.enqueue("render", path=path).id, "pid": os.getpid()}
"""
)

LITESTAR = (
    _HANDLERS
    + """
    from litestar import Litestar, Request, get, post

    @get("/ping", sync_to_thread=False)
    def ping(request: Request) -> dict:
        assert request.app.state.dispatch is current_engine()
        return facts()

    @post("/orders/{path:str}", sync_to_thread=True)
    def order(path: str) -> dict:
        return {"id": current_engine().enqueue("render", path=path).id, "pid": os.getpid()}

    def begins(app) -> None:
        print("mine begins", app.state.dispatch.stats()["supervisors"], flush=True)

    def ends() -> None:
        print("mine ends", ext.health()["supervises"], flush=True)

    app = Litestar([ping, order], on_startup=[begins], on_shutdown=[ends])
    ext.install(app)
"""
)

ALL = {"starlette": STARLETTE, "fastapi": FASTAPI, "litestar": LITESTAR}
