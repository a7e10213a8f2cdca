"""The steps that Hypothesis may take: methods of the machine, each with its options and its weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st

Method = TypeVar("Method", bound=Callable[..., None])

sides = st.sampled_from([0, 1])
places = st.integers(0, 4)
"""In a list of jobs, counted round."""


class Step(NamedTuple):
    """A call of a method of the machine."""

    call: str
    options: dict[str, Any]


STEPS = list[st.SearchStrategy[Step]]()


def step(weight: int, **options: st.SearchStrategy[Any]) -> Callable[[Method], Method]:
    """Have a method of the machine called with such options, as often as its weight says.

    Hypothesis' own `rule` has no weights, and of the rules it leaves out half in every example: most examples then
    have no jobs, or nobody who runs them.
    """

    def register(method: Method) -> Method:
        for _ in range(weight):
            STEPS.append(st.builds(Step, st.just(method.__name__), st.fixed_dictionaries(options)))
        return method

    return register
