"""Opening a store while somebody else has it for himself waits, as every other call does."""

from __future__ import annotations

import threading

from tests.whole.harness import PYTHON, Place, until

EXCLUSIVE = """
import sqlite3, time
c = sqlite3.connect("jobs.db", isolation_level=None)
c.execute("PRAGMA locking_mode = EXCLUSIVE")
c.execute("PRAGMA journal_mode = DELETE")
c.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(300)
"""


def test_a_client_waits_until_the_file_can_be_opened(place: Place) -> None:
    """As in the moment in which another one makes a WAL database of it: not even settings are answered then."""
    place.cli("migrate", "--store", "jobs.db")
    holder = place.start([PYTHON, "-c", EXCLUSIVE])
    until(lambda: "held" in holder.out, "the file is somebody's alone")
    ids: list[int] = []
    client = threading.Thread(target=lambda: ids.append(place.app.quick.enqueue(n=1).id))
    client.start()
    client.join(0.5)
    assert client.is_alive(), "it waits"
    holder.kill()
    client.join(10)
    assert len(ids) == 1
    assert place.drain("-c", "1") == 0
    place.assert_sound()
