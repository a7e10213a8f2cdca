"""An app in a few facts that cross processes as JSON: for a supervisor that does not import it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from mpdispatch.config import Config, QueueConfig
from mpdispatch.handlers.registry import Registry
from mpdispatch.policy.backoff import BackoffSpec
from mpdispatch.store.contract import Durability

__all__ = ["AppDescription", "describe"]


class AppDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker tells its supervisor of the app it has imported."""

    store: str
    """What `open_store` opens the app's store by."""
    durability: Durability | None
    """What the app said of its store's; None: nothing."""
    config: Config
    queue_configs: tuple[QueueConfig, ...]
    backoff: BackoffSpec | None
    """The engine's own."""
    origins: dict[str, str] = {}
    """Where each config value came from, as `Config.resolve_with_sources` says."""
    jobs: dict[str, BackoffSpec | None]
    """Every handler's name, with its own backoff if it has one."""
    queues: dict[str, str] = {}
    """Every handler's own queue."""
    timeouts: dict[str, float] = {}
    """What handlers say a start may take, s; only those that say."""
    default_timeout_s: float | None = None
    """Of jobs without one: `middleware.Timeout`."""
    hooks: frozenset[str] = frozenset()
    """The hooks any extension has, by the names of the methods."""
    is_traced: bool = False
    """Whether workers hold spans back that are lost if they are killed."""

    def unpolled(self, polled: Collection[str]) -> dict[str, list[str]]:
        """Queues of handlers that are not among these, in order, each with its handlers."""
        found: dict[str, list[str]] = {}
        for name, queue in sorted(self.queues.items()):
            if queue not in polled:
                found.setdefault(queue, []).append(name)
        return dict(sorted(found.items()))


def describe(
    registry: Registry,
    *,
    store: object,
    config: Config,
    queue_configs: Iterable[QueueConfig],
    backoff: BackoffSpec | None,
    origins: Mapping[str, str] | None = None,
    default_timeout_s: float | None = None,
    hooks: frozenset[str] = frozenset(),
    is_traced: bool = False,
) -> AppDescription:
    """The description of an app with these parts."""
    return AppDescription(
        store=str(getattr(store, "location", store)),
        durability=getattr(store, "said_durability", None),
        config=config,
        queue_configs=tuple(queue_configs),
        backoff=backoff,
        origins=dict(origins or {}),
        jobs={definition.name: definition.backoff for definition in registry.definitions()},
        queues={definition.name: definition.queue for definition in registry.definitions()},
        timeouts={each.name: each.timeout_s for each in registry.definitions() if each.timeout_s is not None},
        default_timeout_s=default_timeout_s,
        hooks=hooks,
        is_traced=is_traced,
    )
