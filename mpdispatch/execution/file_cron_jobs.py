"""Makes the jobs of the cron entries of a configuration file, with the handlers of an app or for programs.

Effects: looks whether a program of an entry is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.errors import ConfigError, Fault, PayloadError, UnknownJobError
from mpdispatch.execution.commands import environment_of, payload_of, why_not_there
from mpdispatch.handlers.description import AppDescription
from mpdispatch.handlers.file_crons import FileCron, FileCrons
from mpdispatch.handlers.registry import Registry
from mpdispatch.handlers.safejson import payload_as_given
from mpdispatch.model import CronSpec, DeclaredCrons

Known = Callable[[str, Mapping[str, Any]], tuple[bytes, dict[str, Any]]]
"""The payload that these arguments make for a handler, and the handler's values of fields of a NewJob.

Raises UnknownJobError, PayloadError.
"""


def known_here(registry: Registry, max_bytes: int, on_unknown: Callable[[str], object]) -> Known:
    """Asks the handlers of this process.

    A handler may be registered later: until then, its entry is as the file says, and `on_unknown` gets its name.
    """

    def known(name: str, args: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
        its = registry.find(name)
        if its is None:
            on_unknown(name)
            return payload_as_given(name, args, max_bytes), {}
        defaults = _defaults(its.queue, its.priority, its.max_retries, its.expires_s)
        return its.signature.encode((), args, max_bytes=max_bytes), defaults

    return known


def known_of(description: AppDescription, max_bytes: int) -> Known:
    """Asks the description of an app, which only its workers import. They check the types of arguments in a job."""

    def known(name: str, args: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
        if name not in description.jobs:
            raise UnknownJobError(name, known=sorted(description.jobs))
        if faults := description.arguments[name].faults(args):
            raise PayloadError(name, faults)
        return payload_as_given(name, args, max_bytes), _defaults(
            description.queues.get(name, "default"),
            description.priorities.get(name, 0),
            description.max_retries.get(name, 3),
            description.expiries.get(name),
        )

    return known


def _defaults(queue: str, priority: int, max_retries: int, expires_s: float | None) -> dict[str, Any]:
    """A handler's own values, by the fields of a NewJob. A claim adds its timeout to jobs without one."""
    expires_us = None if expires_s is None else round(expires_s * SECOND_US)
    return {"queue": queue, "priority": priority, "max_retries": max_retries, "expires_us": expires_us}


def complete(file: FileCrons, known: Known) -> DeclaredCrons:
    """The entries as a supervisor declares them.

    Raises ConfigError: names every handler or program that is not there, and every argument that does not fit.
    """
    specs: list[CronSpec] = []
    faults: list[Fault] = []
    for entry in file.entries:
        try:
            specs.append(_of_command(entry) if entry.command else _of_handler(entry, known))
        except ConfigError as error:
            faults += [Fault(f"{file.path}: crons{each.key}", each.message) for each in error.faults]
    if faults:
        raise ConfigError(faults)
    return DeclaredCrons(origin="file", app=file.path, specs=tuple(specs))


def _of_handler(entry: FileCron, known: Known) -> CronSpec:
    job = entry.spec.job
    try:
        payload, defaults = known(job.name, entry.args)
    except UnknownJobError as error:
        raise ConfigError([Fault(f"{entry.key}.job", str(error))]) from None
    except PayloadError as error:
        raise ConfigError(
            [Fault(f"{entry.key}.args{'.' * bool(each.key)}{each.key}", each.message) for each in error.faults]
        ) from None
    fields = {name: value for name, value in defaults.items() if name.removesuffix("_us") not in entry.given}
    return msgspec.structs.replace(entry.spec, job=msgspec.structs.replace(job, payload=payload, **fields))


def _of_command(entry: FileCron) -> CronSpec:
    env = environment_of(os.environ, ()) | entry.env
    cwd = entry.cwd or os.getcwd()
    if (missing := why_not_there(entry.command[0], cwd=cwd, path=env.get("PATH"))) is not None:
        raise ConfigError([Fault(f"{entry.key}.command", missing)])
    try:
        payload = payload_of(entry.command, cwd=cwd, env=env, max_bytes=Config().max_payload_bytes)
    except PayloadError as error:
        raise ConfigError([Fault(f"{entry.key}.command", str(each)) for each in error.faults]) from None
    return msgspec.structs.replace(entry.spec, job=msgspec.structs.replace(entry.spec.job, payload=payload))
