"""The settings of an engine, checked together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mpdispatch.config import QueueConfig
from mpdispatch.engine.options import checked_backoff
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.execution.middleware import Middleware, checked_middleware
from mpdispatch.hooks import Extension, checked_extensions
from mpdispatch.policy.backoff import BackoffSpec


class EngineSettings:
    """The arguments of `Engine.build`, checked. Raises ConfigError, which names all faults of all of them."""

    def __init__(
        self,
        *,
        backoff: BackoffSpec | None,
        queue_configs: Iterable[QueueConfig | Mapping[str, Any]],
        middleware: Iterable[Middleware],
        extensions: Iterable[Extension],
    ) -> None:
        faults: list[Fault] = []
        with gathered(faults):
            self.backoff = checked_backoff(backoff)
        with gathered(faults):
            self.queue_configs = _queue_configs(queue_configs)
        with gathered(faults):
            self.middleware = checked_middleware(middleware)
        with gathered(faults):
            self.extensions = checked_extensions(extensions)
        if faults:
            raise ConfigError(faults)


@contextmanager
def gathered(faults: list[Fault]) -> Iterator[None]:
    """Inside it, a ConfigError ends the block and adds its faults to the list."""
    try:
        yield
    except ConfigError as error:
        faults += error.faults


def listed(given: object) -> object:
    """An iterable, or a generator, as a tuple. Anything else is returned unchanged, for its reader to refuse."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        return given
    return tuple(given)


def _queue_configs(given: object) -> tuple[QueueConfig, ...]:
    try:
        return QueueConfig.read_list(listed(given), False)
    except UsageError as error:
        raise ConfigError([Fault("queue_configs", str(error))]) from None
    except ConfigError as error:
        raise ConfigError([Fault("queue_configs" + each.key, each.message) for each in error.faults]) from None
