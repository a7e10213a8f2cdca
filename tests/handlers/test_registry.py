"""Handlers under names; what cannot be one is refused when it is registered."""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from mpdispatch.errors import DuplicateJobError, RegistrationError, UnknownJobError
from mpdispatch.handlers.registry import JobDefinition, Registry


def resize(path: str) -> None: ...
def other(path: str) -> None: ...


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def test_a_second_handler_under_a_name_is_refused_naming_both() -> None:
    registry = Registry()
    registry.add(JobDefinition(name="resize", function=resize))
    with pytest.raises(DuplicateJobError, match=r"test_registry:resize.*test_registry:other"):
        registry.add(JobDefinition(name="resize", function=other))


def test_the_same_definition_again_is_no_news() -> None:
    registry, definition = Registry(), JobDefinition(name="resize", function=resize)
    registry.add(definition)
    registry.add(definition)
    assert len(registry.names()) == 1


def test_an_unknown_name_is_refused_naming_the_known_ones() -> None:
    registry = Registry()
    registry.add(JobDefinition(name="resize", function=resize))
    with pytest.raises(UnknownJobError, match="registered: resize"):
        registry.get("resise")


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (async_generator, "async generator"),
        (generator, "generator"),
        (dict, "function"),
        ("resize", "function"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(function: Any, text: str) -> None:
    with pytest.raises(RegistrationError, match=text):
        JobDefinition(name="x", function=function)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201, "\ud800", 3])
def test_a_bad_name_is_refused(name: Any) -> None:
    with pytest.raises(RegistrationError, match="job name"):
        JobDefinition(name=name, function=resize)


def test_a_handler_wrapped_by_a_decorator_takes_the_arguments_of_the_inner_one() -> None:
    definition = JobDefinition(name="resize", function=wrapped(resize))
    assert definition.signature.names == ("path",)


def test_the_reference_names_a_function_of_a_module_and_no_other() -> None:
    def local() -> None: ...

    assert JobDefinition(name="a", function=resize).reference == f"{__name__}:resize"
    assert JobDefinition(name="b", function=local).reference is None
    assert JobDefinition(name="c", function=lambda: None).reference is None
    impostor = functools.wraps(resize)(lambda path: None)
    assert JobDefinition(name="d", function=impostor).reference is None


def test_many_threads_may_add_and_read_at_once() -> None:
    registry = Registry()

    def add(start: int) -> None:
        for number in range(start, start + 50):
            registry.add(JobDefinition(name=f"job{number}", function=resize))
            assert f"job{number}" in registry.names()

    threads = [threading.Thread(target=add, args=(n * 50,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.names()) == 400
