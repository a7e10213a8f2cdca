"""The settings of an engine, checked together so that one error names all faults. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mpdispatch.config import QueueConfig
from mpdispatch.engine.options import checked_backoff
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.execution.middleware import Middleware, checked_middleware
from mpdispatch.hooks import Extension, checked_extensions
from mpdispatch.policy.backoff import BackoffSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The arguments of `Engine.build`, checked."""

    backoff: BackoffSpec | None
    queue_configs: tuple[QueueConfig, ...]
    middleware: tuple[Middleware, ...]
    extensions: tuple[Extension, ...]

    @classmethod
    def validated(
        cls,
        *,
        backoff: BackoffSpec | None,
        queue_configs: Iterable[QueueConfig | Mapping[str, Any]],
        middleware: Iterable[Middleware],
        extensions: Iterable[Extension],
    ) -> EngineSettings:
        """Raises ConfigError, which names all faults of all of them."""
        faults: list[Fault] = []

        def checked(check: Callable[[object], T], given: object) -> T | None:
            try:
                return check(given)
            except ConfigError as error:
                faults.extend(error.faults)
                return None

        parts = cls(
            backoff=checked(checked_backoff, backoff),
            queue_configs=checked(_queue_configs, queue_configs) or (),
            middleware=checked(checked_middleware, middleware) or (),
            extensions=checked(checked_extensions, extensions) or (),
        )
        if faults:
            raise ConfigError(faults)
        return parts


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
