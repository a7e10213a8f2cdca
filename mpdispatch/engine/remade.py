"""Builds an engine that no module holds again from its parts. Runs in the worker process."""

from __future__ import annotations

from mpdispatch.dispatcher import Dispatcher
from mpdispatch.engine.definition import JobHandle
from mpdispatch.engine.engine import Engine
from mpdispatch.execution.app_parts import HandlerPart, find_part, parts_at_hand
from mpdispatch.handlers.registry import JobDefinition, definition_of
from mpdispatch.store import open_store


def remade() -> Engine:
    """The factory of such an engine, see `execution.app_parts`."""
    parts = parts_at_hand()
    engine = Engine.build(
        Dispatcher(open_store(parts.store), config=parts.config),
        backoff=parts.backoff,
        queue_configs=parts.queue_configs,
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
