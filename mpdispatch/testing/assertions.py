"""What was enqueued, read from the engine's store: assertions whose message says what was enqueued instead."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from mpdispatch.engine.definition import JobHandle
from mpdispatch.engine.engine import Engine
from mpdispatch.errors import PayloadError, UsageError
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.handlers.signature import ArgumentNames
from mpdispatch.model import COMMAND_JOB, Job, JobState
from mpdispatch.policy.durations import duration_of
from mpdispatch.policy.names import cut, nearest, shown
from mpdispatch.testing.isolation import AnyEngine, engine_of

TOLERANCE_S = 1.0
"""How far `delay` and `run_at` may be off."""
_SHOWN = 10
_SHOWN_CHARS = 120


def assert_enqueued(
    engine: AnyEngine,
    job: str | JobHandle[..., Any],
    /,
    *,
    args: Mapping[str, Any] | None = None,
    count: int | None = None,
    **wanted: Any,
) -> Job:
    """Check that such a job was enqueued, whatever became of it since; gives the first one.

        testing.assert_enqueued(engine, "render", path="a.pdf", queue="bulk", delay=60)

    Keywords are arguments of the handler, of which those that are given must be equal, and options of the job: queue,
    priority, max_retries, timeout, idempotency_key, state, batch_id, and within a second run_at (a datetime) and delay
    (how long after its enqueue it is or was last due: seconds, or `"5m"`). With `args`, a mapping, all arguments are in
    there; a handler that has an argument of such a name needs that. `count`: exactly so many.

    Raises:
        AssertionError: there is none, or another number; lists what was enqueued.
        UnknownJobError, UsageError: no such handler, argument or option, so that the check would say nothing.
    """
    __tracebackhide__ = True
    search = _Search(engine, job, args, wanted)
    found = search.found()
    if count is None and found:
        return found[0]
    if count is None:
        raise AssertionError(f"no {search} was enqueued; {search.instead()}")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"count: must be a whole number from 1, not {shown(count)}; see refute_enqueued")
    if len(found) != count:
        raise AssertionError(f"{len(found)} of {search} were enqueued, not {count}; {search.instead()}")
    return found[0]


def refute_enqueued(
    engine: AnyEngine,
    job: str | JobHandle[..., Any],
    /,
    *,
    args: Mapping[str, Any] | None = None,
    **wanted: Any,
) -> None:
    """Check that no such job was enqueued; the arguments are those of `assert_enqueued`. Raises AssertionError."""
    __tracebackhide__ = True
    search = _Search(engine, job, args, wanted)
    if found := search.found():
        lines = [f"\n  {_line(each)}" for each in found[:_SHOWN]]
        raise AssertionError(f"{len(found)} of {search} were enqueued:{''.join(lines)}")


def all_enqueued(
    engine: AnyEngine,
    job: str | JobHandle[..., Any] | None = None,
    /,
    *,
    args: Mapping[str, Any] | None = None,
    **wanted: Any,
) -> list[Job]:
    """Every such job, oldest first, whatever became of it since. None: of every name, with these options."""
    return _Search(engine, job, args, wanted).found()


class _Search:
    """What is looked for. Raises UsageError, UnknownJobError."""

    def __init__(
        self,
        engine: AnyEngine,
        job: str | JobHandle[..., Any] | None,
        args: Mapping[str, Any] | None,
        wanted: Mapping[str, Any],
    ) -> None:
        self._engine = engine_of(engine)
        self._name = job.name if isinstance(job, JobHandle) else job
        self._definition = _definition(self._engine, self._name)
        names = () if self._definition is None else self._definition.signature.names
        if args is None:
            _refuse_ambiguous(names, wanted)
            args = {name: value for name, value in wanted.items() if name not in _OPTIONS}
            wanted = {name: value for name, value in wanted.items() if name in _OPTIONS}
        self._arguments = dict(args)
        self._options = dict(wanted)
        self._refuse_unknown(names)

    def _refuse_unknown(self, names: tuple[str, ...]) -> None:
        faults = [_no_option(name) for name in self._options if name not in _OPTIONS]
        if self._definition is not None:
            faults += [str(fault) for fault in ArgumentNames(names, ()).faults(self._arguments)]
        elif self._name is None and self._arguments:
            faults.append(f"{', '.join(self._arguments)}: say the job whose arguments these are")
        if faults:
            raise UsageError("; ".join(faults))
        for name, value in self._options.items():
            _OPTIONS[name].check(value)

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"{_call(self._name or 'job', self._arguments)}{' with ' if options else ''}{options}"

    def found(self) -> list[Job]:
        return [job for job in self._all(self._name) if not any(self._differences(job))]

    def _all(self, name: str | None) -> list[Job]:
        """Oldest first."""
        jobs: list[Job] = []
        cursor: str | None = None
        while True:
            page = self._engine.list_jobs(name=name, limit=1000, cursor=cursor)
            jobs += page.items
            if (cursor := page.next_cursor) is None:
                return jobs[::-1]

    def _differences(self, job: Job) -> Iterator[str]:
        """What is otherwise than looked for, such as `path is 'b.pdf'`."""
        given = self._passed(job) if self._arguments else {}
        for name, wanted in self._arguments.items():
            in_json = job.payload.get(name, msgspec.UNSET)
            value = given.get(name, in_json)
            if value is msgspec.UNSET:
                yield f"{name} was not given"
            elif not (_equal(value, wanted) or _equal(in_json, wanted)):
                yield f"{name} is {_brief(value)}"
        for name, wanted in self._options.items():
            option = _OPTIONS[name]
            if not option.is_met(value := option.of(job), wanted):
                yield f"{name} is {_brief(value)}"

    def _passed(self, job: Job) -> dict[str, Any]:
        """What its handler gets, with the defaults."""
        if self._definition is None:
            return {}
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(self._definition.function).parameters.items()
            if parameter.default is not parameter.empty
        }
        try:
            return defaults | self._definition.signature.decode(msgspec.json.encode(job.payload), job.id)
        except PayloadError:  # stored for an older handler; its JSON is compared
            return {}

    def instead(self) -> str:
        """What was enqueued instead: each job of this name, with what is otherwise; else how many of other names."""
        if jobs := self._all(self._name):
            lines = [f"{_line(job)}: {', '.join(self._differences(job)) or 'as it should be'}" for job in jobs]
            if len(lines) > _SHOWN:
                lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"]
            return "there are:" + "".join(f"\n  {line}" for line in lines)
        counts = Counter(job.name for job in self._all(None))
        others = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        return f"only {others}" if others else "nothing was"


def _definition(engine: Engine, name: object) -> JobDefinition | None:
    if name is None or name == COMMAND_JOB:
        return None
    if not isinstance(name, str):
        raise UsageError(f"job: must be the name of a handler or a handler, not {shown(name)}")
    return engine.registry.get(name)


def _refuse_ambiguous(names: tuple[str, ...], wanted: Mapping[str, Any]) -> None:
    if both := [name for name in wanted if name in _OPTIONS and name in names]:
        raise UsageError(
            f"{', '.join(both)}: is an option of a job, and an argument of this handler; give the arguments as"
            " args={...}, and options as keywords"
        )


def _no_option(name: str) -> str:
    near = nearest(cut(name, 200), _OPTIONS)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(_OPTIONS)}"
    return f"{cut(name)}: no such option; {hint}"


# ---------------------------------------------------------------- options


class _Option(msgspec.Struct, frozen=True):
    of: Callable[[Job], Any]
    is_met: Callable[[Any, Any], bool] = lambda value, wanted: _equal(value, wanted)
    check: Callable[[Any], object] = lambda wanted: None


def _delay_s(job: Job) -> float:
    return (job.run_at - job.created_at).total_seconds()


def _check_moment(value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise UsageError(f"run_at: must be an aware datetime, not {shown(value)}")


def _check_state(value: object) -> None:
    if value not in list(JobState):
        raise UsageError(f"state: must be one of {', '.join(JobState)}, not {shown(value)}")


_OPTIONS: dict[str, _Option] = {
    "queue": _Option(lambda job: job.queue),
    "priority": _Option(lambda job: job.priority),
    "max_retries": _Option(lambda job: job.max_retries),
    "timeout": _Option(
        lambda job: job.timeout,
        lambda value, wanted: (
            value == wanted if None in (value, wanted) else value == duration_of("timeout", wanted)
        ),
        lambda wanted: None if wanted is None else duration_of("timeout", wanted),
    ),
    "idempotency_key": _Option(lambda job: job.idempotency_key),
    "state": _Option(lambda job: job.state, check=_check_state),
    "batch_id": _Option(lambda job: job.batch_id),
    "run_at": _Option(
        lambda job: job.run_at,
        lambda value, wanted: abs((value - wanted).total_seconds()) <= TOLERANCE_S,
        _check_moment,
    ),
    "delay": _Option(
        _delay_s,
        lambda value, wanted: abs(value - duration_of("delay", wanted)) <= TOLERANCE_S,
        lambda wanted: duration_of("delay", wanted),
    ),
}


# ---------------------------------------------------------------- texts


def _equal(value: object, wanted: object) -> bool:
    try:
        return bool(value == wanted)
    except Exception:  # noqa: BLE001 - the user's __eq__ may raise anything; arrays have no single truth
        return False


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={_brief(value)}' for key, value in arguments.items())})"


def _line(job: Job) -> str:
    facts = [str(job.state)]
    if job.queue != "default":
        facts.append(f"queue {job.queue}")
    if (delay_s := _delay_s(job)) >= TOLERANCE_S:
        facts.append(f"delay {delay_s:g} s")
    return f"job {job.id} {_call(job.name, job.payload)} ({', '.join(facts)})"


def _brief(value: object) -> str:
    text = repr(str(value)) if isinstance(value, JobState) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
