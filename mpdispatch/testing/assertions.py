"""What was enqueued, read from the engine's store: assertions whose message says what was enqueued instead."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mpdispatch.engine.definition import JobHandle
from mpdispatch.engine.engine import Engine
from mpdispatch.errors import PayloadError, UsageError
from mpdispatch.handlers.registry import JobDefinition
from mpdispatch.handlers.signature import ArgumentNames
from mpdispatch.model import COMMAND_JOB, Job, JobState
from mpdispatch.policy.names import cut, nearest, shown
from mpdispatch.testing.isolation import AnyEngine, engine_of
from mpdispatch.testing.job_options import OPTIONS, TOLERANCE_S, delay_s, equal

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
    priority, max_retries, timeout, idempotency_key, state, batch_id, after (its parents), and within a second run_at (a
    datetime) and delay (how long after its enqueue it is or was last due: seconds, or `"5m"`). With `args`, a mapping,
    all arguments are in there; a handler that has an argument of such a name needs that. `count`: exactly so many.

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
            args = {name: value for name, value in wanted.items() if name not in OPTIONS}
            wanted = {name: value for name, value in wanted.items() if name in OPTIONS}
        self._arguments = dict(args)
        self._options = dict(wanted)
        self._refuse_unknown(names)

    def _refuse_unknown(self, names: tuple[str, ...]) -> None:
        faults = [_no_option(name) for name in self._options if name not in OPTIONS]
        if self._definition is not None:
            faults += [str(fault) for fault in ArgumentNames(names, ()).faults(self._arguments)]
        elif self._name is None and self._arguments:
            faults.append(f"{', '.join(self._arguments)}: say the job whose arguments these are")
        if faults:
            raise UsageError("; ".join(faults))
        for name, value in self._options.items():
            OPTIONS[name].check(value)

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
            elif not (equal(value, wanted) or equal(in_json, wanted)):
                yield f"{name} is {_brief(value)}"
        for name, wanted in self._options.items():
            option = OPTIONS[name]
            if not option.is_met(value := option.of(job, self._engine.store), wanted):
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
    if both := [name for name in wanted if name in OPTIONS and name in names]:
        raise UsageError(
            f"{', '.join(both)}: is an option of a job, and an argument of this handler; give the arguments as"
            " args={...}, and options as keywords"
        )


def _no_option(name: str) -> str:
    near = nearest(cut(name, 200), OPTIONS)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(OPTIONS)}"
    return f"{cut(name)}: no such option; {hint}"


# ---------------------------------------------------------------- texts


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={_brief(value)}' for key, value in arguments.items())})"


def _line(job: Job) -> str:
    facts = [str(job.state)]
    if job.queue != "default":
        facts.append(f"queue {job.queue}")
    if (late_s := delay_s(job)) >= TOLERANCE_S:
        facts.append(f"delay {late_s:g} s")
    return f"job {job.id} {_call(job.name, job.payload)} ({', '.join(facts)})"


def _brief(value: object) -> str:
    text = repr(str(value)) if isinstance(value, JobState) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
