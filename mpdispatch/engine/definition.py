"""What `@engine.job` and `@job` make of a function: a handle that can still be called, and can enqueue jobs.

@engine.job(queue="bulk")          @job(queue="bulk")     # joined later: engine.register(render)
def render(path: str): ...
render("a.pdf")                    a plain call, here
render.enqueue("a.pdf")            a job, on disk when it returns
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, overload

from mpdispatch.engine.enqueueing import BoundJob, EnqueuesJobs
from mpdispatch.engine.options import (
    PLAIN,
    EnqueueKeywords,
    EnqueueOptions,
    JobKeywords,
    checked_job_keywords,
    documented,
)
from mpdispatch.errors import RegistrationError, UsageError
from mpdispatch.handlers.names import check_job_name
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.policy.names import shown

if TYPE_CHECKING:  # which imports this module
    from mpdispatch.engine.engine import Engine

P = ParamSpec("P")
R = TypeVar("R")


class JobHandle(EnqueuesJobs[P, R], Generic[P, R]):
    """A handler. Call it as a plain function, or enqueue a job for it."""

    __wrapped__: Callable[P, R]

    def __init__(self, definition: JobDefinition) -> None:
        functools.update_wrapper(self, definition.function)
        self.definition = definition
        self._engine: Engine | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, in this process. No job is made."""
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job {self.definition.name!r}: {self.definition.where}>"

    @property
    def name(self) -> str:
        """The job's name."""
        return self.definition.name

    def bind(self, engine: Engine) -> None:
        """From now on, enqueue into this engine. `engine.register` calls it."""
        self._engine = engine

    def _bound_engine(self) -> Engine:
        if self._engine is None:
            raise UsageError(f"job {self.name!r} belongs to no engine yet: engine.register({self.__name__})")
        return self._engine

    def _target(self) -> tuple[Engine, JobDefinition, EnqueueOptions]:
        return self._bound_engine(), self.definition, PLAIN

    __name__: str

    @documented(EnqueueKeywords)
    def options(self, **options: Unpack[EnqueueKeywords]) -> BoundJob[P, R]:
        """This handler with options for its next enqueues: `render.options(delay=60).enqueue("a.pdf")`.

        An option that is not given (or None, except `timeout` and `expires`) is that of the handler.

        Raises UsageError: names every option that is unknown or not allowed.
        """
        return BoundJob(self._bound_engine(), self.definition, EnqueueOptions.read(options))


def as_handle(name: str | None, function: Callable[P, R], options: Mapping[str, Any]) -> JobHandle[P, R]:
    """The handle for a function. Raises RegistrationError."""
    job_name = getattr(function, "__name__", None) if name is None else name
    if not callable(function):
        raise RegistrationError(f"a handler must be a function, not {shown(function)}")
    if job_name in (None, "<lambda>"):
        what = "a lambda" if job_name else shown(function)
        raise RegistrationError(f"{what} has no name of its own; give the job one: job(name=...)")
    try:
        check_job_name(job_name)
        fields = checked_job_keywords(options)
    except UsageError as error:
        raise RegistrationError(f"job {job_name!r}: {error}") from error
    return JobHandle(JobDefinition(name=job_name, function=function, **fields))


@overload
def job(name: Callable[P, R], /) -> JobHandle[P, R]: ...
@overload
def job(
    name: str | None = None, **options: Unpack[JobKeywords]
) -> Callable[[Callable[P, R]], JobHandle[P, R]]: ...
@documented(JobKeywords)
def job(name: Any = None, **options: Any) -> Any:
    """Make the function a handler that an engine takes in later: `engine.register(f)`.

    Used as `@job` or as `@job(name=None, *, queue="default", priority=0, max_retries=3, timeout=None,
    expires=None, backoff=None)`.

    name: what the job is called in the store; the function's own name unless given.

    Raises RegistrationError: the function cannot be a handler, or an option is not allowed.
    """
    if callable(name):
        return as_handle(None, name, options)
    return lambda function: as_handle(name, function, options)
