"""A store answers as the model does, whatever is asked of it, by whom and in which order.

`MPDISPATCH_MODEL_EXAMPLES=2000` tries that many sequences of calls, others each time; without it, the same few.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from mpdispatch.store.batches import BatchStore
from mpdispatch.store.contract import Store
from mpdispatch.store.crons import CronDecisions, CronStore
from mpdispatch.store.optional import StoreUpkeep
from mpdispatch.store.supervisor_contract import SupervisorStore
from tests.kinds import StoreKind

from .machine import Machine
from .model import Model, Upkeep
from .model_batches import Batches
from .model_crons import Crons

EXAMPLES = int(os.environ.get("MPDISPATCH_MODEL_EXAMPLES", "0"))

# A failure is made short before it is shown, which takes minutes.
pytestmark = pytest.mark.timeout(0 if EXAMPLES else 600)


def drive(machine: Callable[[], Machine], number: int, examples: int) -> None:
    """`number` chooses the sequences, if they are to be the same ones each time; then there are so many examples."""
    run_state_machine_as_test(
        machine if EXAMPLES else seed(number)(machine),
        settings=settings(
            max_examples=EXAMPLES or examples,
            stateful_step_count=40,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


LEFT_OUT = {
    **dict.fromkeys(
        ("location", "display", "is_shared", "is_remote", "file", "supervisor_store"), "where it is"
    ),
    **dict.fromkeys(("said_durability", "prefer_durability", "sync"), "what outlasts a power cut"),
    **dict.fromkeys(("migrate", "script", "check", "close", "close_all"), "opening and closing"),
    "transfer": "moving house: tests/store/test_transfer.py",
    "wake": "a hint that may be lost",
    **dict.fromkeys(("file_care", "compact", "backup"), "the file and its lock"),
    **dict.fromkeys(("upkeep", "crons", "batches"), "a face of its own"),
    **dict.fromkeys(("examine", "faults"), "rows that cannot be read: no call of the contract makes one"),
}
"""What is no rule about jobs, and what it is instead."""


def calls_of(face: type) -> dict[str, Any]:
    return {name: call for name, call in vars(face).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("face", "model"),
    [
        (Store, Model),
        (SupervisorStore, Model),
        (StoreUpkeep, Upkeep),
        (CronDecisions, Crons),
        (CronStore, Crons),
        (BatchStore, Batches),
    ],
)
def test_the_model_has_every_call_of_the_contract(face: type, model: type) -> None:
    calls = calls_of(face)
    for name in calls.keys() - LEFT_OUT.keys():
        wanted = [each for each in inspect.signature(calls[name]).parameters if each != "connection"]
        assert [*inspect.signature(getattr(model, name)).parameters] == wanted, name


def test_the_model_has_no_call_that_is_not_in_the_contract() -> None:
    contract = calls_of(Store).keys() | calls_of(SupervisorStore).keys()
    assert calls_of(Model).keys() == contract - LEFT_OUT.keys()
    assert contract >= LEFT_OUT.keys()


def test_the_face_of_supervisors_stays_small() -> None:
    assert len(calls_of(SupervisorStore).keys() - {"is_remote", "file_care", "upkeep", "crons"}) <= 10


NUMBERS = {"memory": 2, "file": 3, "postgres": 4, "redis": 5, "valkey": 6}
MANY, FEW = 100, 30
"""Examples in a process's own database, and of those on a server, where each takes five times as long."""


def test_a_store_answers_as_the_model_does(store_kind: StoreKind) -> None:
    class MachineOfKind(Machine):
        def __init__(self) -> None:
            super().__init__(store_kind.make, store_kind.app_connection, store_kind.ids)

        def teardown(self) -> None:
            super().teardown()
            if self.ids is not None:
                self.ids.close()
            store_kind.discard(self.store)

    drive(MachineOfKind, NUMBERS[store_kind.name], MANY if store_kind.name in ("file", "memory") else FEW)
