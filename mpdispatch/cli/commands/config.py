"""`config check`: every setting in force, and where each comes from."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import msgspec

from mpdispatch.cli.locate import DEFAULT_STORE, app_on_command_line
from mpdispatch.cli.output import print_json, print_line, print_table
from mpdispatch.cli.program import Options, command_group
from mpdispatch.clock import SECOND_US
from mpdispatch.config import QueueConfig
from mpdispatch.configfile import effective
from mpdispatch.handlers.file_crons import FileCron
from mpdispatch.model.json import moment_of, time_to_json
from mpdispatch.store.display import without_password


@command_group("mpdispatch config check\nmpdispatch config check --config forge.yaml --json")
def config() -> None:
    """Check the configuration."""


@config.add("mpdispatch config check\nmpdispatch config check -A tasks:engine")
def check(options: Options) -> None:
    """Show every setting and its source.

    Exits 78 if there are faults, and prints all of them.

    Argument beats environment beats file beats default. With -A also what the app's own code says.
    """
    settings = effective(_explicit(options), env=os.environ, config_file=options.config)
    values = {**dataclasses.asdict(settings.config), **settings.others}
    values["store"] = without_password(values["store"] or DEFAULT_STORE)
    rows = [
        (name, _plain(values[name]), _source(options, name, settings.origins[name])) for name in sorted(values)
    ]
    file = None if settings.section is None else str(settings.section.path)
    key = None if settings.section is None else settings.section.key
    if options.json:
        in_force = {name: {"value": value, "source": source} for name, value, source in rows}
        print_json({"file": file, "key": key, "settings": in_force})
        return
    print_table(["setting", "value", "source"], [(n, json.dumps(v), s) for n, v, s in rows])
    print_line(f"file: {file}, key {key}" if file else "file: none")


def _explicit(options: Options) -> dict[str, Any]:
    """Settings from the command line, and with -A from the app, whose code beats environment and file."""
    explicit: dict[str, Any] = {}
    if (engine := app_on_command_line(options)) is not None:
        dispatcher = engine.dispatcher
        explicit = {
            name: getattr(dispatcher.config, name)
            for name, origin in dispatcher.origins.items()
            if origin == "argument"
        }
        explicit |= {"app": options.app, "store": dispatcher.store.display}
    if options.store is not None:
        explicit["store"] = options.store
    return explicit


def _source(options: Options, name: str, origin: str) -> str:
    if origin != "argument":
        return origin
    if name == "store" and options.store is not None:
        return "--store"
    return "-A" if name == "app" else f"the app {options.app}"


def _plain(value: Any) -> Any:
    """The value in the form of the configuration file."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, QueueConfig):
        return {key: each for key, each in dataclasses.asdict(value).items() if each is not None}
    return _plain_cron(value) if isinstance(value, FileCron) else value


def _plain_cron(item: FileCron) -> dict[str, Any]:
    spec, job = item.spec, item.spec.job
    of_the_job = {
        "job": None if item.command else job.name,
        "args": msgspec.to_builtins(item.args) or None,  # a YAML date is text in JSON
        "command": list(item.command) or None,
        "cwd": item.cwd,
        "env": item.env or None,
        "timeout": _seconds(job.timeout_us),
        "expires": _seconds(job.expires_us),
        **{each: getattr(job, each) for each in item.given - {"timeout", "expires"}},
    }
    times = {each: getattr(spec, f"{each}_us") for each in ("starts_at", "ends_at")}
    of_the_entry = {
        "name": spec.name,
        "schedule": spec.schedule,
        "tz": spec.tz,
        "catch_up": spec.catch_up,
        "catch_up_limit": spec.catch_up_limit,
        "overlap": spec.overlap,
        "jitter": _seconds(spec.jitter_us),
        "late_after": _seconds(spec.late_after_us),
        **{each: None if us is None else time_to_json(moment_of(us)) for each, us in times.items()},
    }
    return {key: each for key, each in (of_the_entry | of_the_job).items() if each is not None}


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / SECOND_US
