"""Builds an engine that no module holds again from its parts. Runs in the worker process."""

from __future__ import annotations

from mpdispatch.dispatcher import Dispatcher
from mpdispatch.engine.definition import JobHandle
from mpdispatch.engine.engine import Engine
from mpdispatch.execution.app_parts import AppParts, HandlerPart, find_part
from mpdispatch.handlers.registry import JobDefinition, definition_of
from mpdispatch.store import open_store


def remade(parts: AppParts) -> Engine:
    """An engine of these parts, like the one that they are of."""
    engine = Engine.build(
        Dispatcher(open_store(parts.app.store), config=parts.app.config),
        backoff=parts.app.backoff,
        queue_configs=parts.app.queue_configs,
        middleware=[find_part(place) for place in parts.middleware],
        extensions=[find_part(place) for place in parts.extensions],
    )
    for each in parts.handlers:
        engine.register(_handle(each))
    return engine


def _handle(part: HandlerPart) -> JobHandle[..., object]:
    found = find_part(part.at)
    definition = definition_of(found)
    if isinstance(found, JobHandle) and found.definition.name == part.name:
        return found  # So that other handlers can enqueue by it.
    return JobHandle(
        JobDefinition(
            name=part.name,
            function=found if definition is None else definition.function,
            queue=part.queue,
            priority=part.priority,
            max_retries=part.max_retries,
            timeout_s=part.timeout_s,
            backoff=part.backoff,
        )
    )
