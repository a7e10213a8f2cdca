"""Handlers nested in functions: those that a worker finds work, the others are refused before a job is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpdispatch import Dispatcher, Engine, RegistrationError, SQLiteStore
from mpdispatch.extension import DispatchExtension
from tests.test_stopping_a_start import run

engine = Engine.build(Dispatcher(store=SQLiteStore("never.db")))
ext = DispatchExtension(store="never.db")
REFUSED = r"no worker can find tests.test_nested_handlers:.*<locals>.*; define it at the top level of a module"


@pytest.mark.parametrize("module_engine", [engine, ext.engine], ids=["an engine", "an extension's"])
def test_what_is_nested_and_registered_after_the_import_is_refused(module_engine: Engine) -> None:
    before = module_engine.registry.names()
    with pytest.raises(RegistrationError, match=REFUSED):

        @module_engine.job
        def nested() -> None: ...

    with pytest.raises(RegistrationError, match=REFUSED):
        module_engine.job(name="short")(lambda: None)
    assert module_engine.registry.names() == before


def test_an_engine_in_a_function_takes_what_is_nested_there(tmp_path: Path) -> None:
    local = Engine.build(Dispatcher(store=SQLiteStore(tmp_path / "jobs.db")))

    @local.job
    def nested(n: int) -> int:
        return n

    assert nested.enqueue(1).id == 1


HEAD = """
    from mpdispatch import Dispatcher, Engine, RegistrationError, SQLiteStore

    def app():
        engine = Engine.build(Dispatcher(store=SQLiteStore("jobs.db"), concurrency=1))

        @engine.job
        def double(n: int) -> int:
            return 2 * n

        engine.job(name="triple")(lambda n: 3 * n)
        return engine

    engine = app()
"""


def test_what_is_nested_and_registered_by_the_main_program_is_found(tmp_path: Path) -> None:
    body = """
    if __name__ == "__main__":
        with engine.dispatcher:
            print([engine.wait(engine.enqueue(name, 7).id, timeout=30).result for name in ("double", "triple")])
    """
    assert run(tmp_path, HEAD, body) == "[14, 21]\n"


@pytest.mark.parametrize("call", ["start()", "run(drain=True)"])
def test_what_is_nested_in_the_guarded_part_of_a_program_is_refused_at_the_start(
    tmp_path: Path, call: str
) -> None:
    body = f"""
    def main():
        @engine.job
        def lost() -> None: ...

        try:
            engine.dispatcher.{call}
        except RegistrationError as error:
            print(error)
        print(engine.store.supervisors())

    if __name__ == "__main__":
        main()
    """
    said = run(tmp_path, HEAD, body)
    assert said.startswith("job 'lost': no worker can find __main__:main.<locals>.lost, ")
    assert said.endswith("\n[]\n")


def test_what_is_registered_while_it_runs_is_refused_if_it_is_nested(tmp_path: Path) -> None:
    body = """
    def later(n: int) -> int:
        return n + 1

    def main():
        def lost() -> None: ...

        with engine.dispatcher:
            try:
                engine.register(lost)
            except RegistrationError as error:
                print(error)
            print("lost" in engine.registry.names())
            print(engine.wait(engine.register(later).enqueue(1).id, timeout=30).result)
        engine.register(lost)  # for a supervisor that finds it

    if __name__ == "__main__":
        main()
    """
    said = run(tmp_path, HEAD, body)
    assert said.startswith("job 'lost': no worker can find __main__:main.<locals>.lost, ")
    assert said.endswith("\nFalse\n2\n")
