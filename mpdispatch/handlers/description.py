"""What a supervisor must know of an app that it does not import, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from mpdispatch.config import Config, QueueConfig
from mpdispatch.handlers.registry import Registry
from mpdispatch.handlers.signature import ArgumentNames
from mpdispatch.model import DeclaredCrons
from mpdispatch.policy.backoff import BackoffSpec
from mpdispatch.store.values import Durability


class AppDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker tells its supervisor of the app it has imported."""

    store: str
    """The location of the app's store, for `open_store`."""
    durability: Durability | None
    """The durability that the app asks of its store; None: it does not say."""
    config: Config
    queue_configs: tuple[QueueConfig, ...] = ()
    backoff: BackoffSpec | None = None
    """Of jobs that have none of their own."""
    origins: dict[str, str] = {}
    """The source of each config value, as `Config.resolve_with_sources` gives it."""
    jobs: dict[str, BackoffSpec | None]
    """The name of each handler, with its own backoff if it has one."""
    queues: dict[str, str] = {}
    """The queue of each handler."""
    timeouts: dict[str, float] = {}
    """Seconds that one start may take, for each handler that has a timeout."""
    priorities: dict[str, int] = {}
    """The priority of each handler that has another one than 0."""
    max_retries: dict[str, int] = {}
    """The retries of each handler that has others than 3."""
    expiries: dict[str, float] = {}
    """Seconds after which jobs that were not started expire, for each handler whose jobs do."""
    arguments: dict[str, ArgumentNames] = {}
    """The arguments of each handler."""
    crons: tuple[DeclaredCrons, ...] = ()
    """The cron entries that the app declares, and those of a file that it reads."""
    default_timeout_s: float | None = None
    """The timeout of jobs without one, from `middleware.Timeout`."""
    hooks: frozenset[str] = frozenset()
    """The names of all hooks that an extension overrides."""
    is_traced: bool = False
    """Whether workers hold back spans, which a kill would lose."""

    def unpolled(self, polled: Collection[str]) -> dict[str, list[str]]:
        """The queues of handlers that are not in `polled`, sorted, each with the names of its handlers."""
        found: dict[str, list[str]] = {}
        for name, queue in sorted(self.queues.items()):
            if queue not in polled:
                found.setdefault(queue, []).append(name)
        return dict(sorted(found.items()))


def describe(registry: Registry, *, store: object, **others: Any) -> AppDescription:
    """The description of an app with these handlers and this store; `others` are further fields of it."""
    definitions = registry.definitions()
    return AppDescription(
        store=str(getattr(store, "location", store)),
        durability=getattr(store, "said_durability", None),
        jobs={each.name: each.backoff for each in definitions},
        queues={each.name: each.queue for each in definitions},
        timeouts={each.name: each.timeout_s for each in definitions if each.timeout_s is not None},
        priorities={each.name: each.priority for each in definitions if each.priority},
        arguments={each.name: each.signature.named for each in definitions},
        expiries={each.name: each.expires_s for each in definitions if each.expires_s is not None},
        max_retries={each.name: each.max_retries for each in definitions if each.max_retries != 3},
        **others,
    )
