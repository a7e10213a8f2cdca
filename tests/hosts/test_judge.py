"""The judge sees what it is there to see."""

from __future__ import annotations

from tests.hosts.judge import Run, crowds, notes_in, overlaps, runs_of

AHEAD = {"east": 0, "west": 1000}


def runs(*lines: str) -> list[Run]:
    return runs_of(notes_in("\n".join(lines), AHEAD.__getitem__))


def test_a_run_lasts_from_its_first_note_to_its_last_one() -> None:
    (run,) = runs("start 1 1 default east 7 100", "on 1 1 default east 7 130", "end 1 1 default east 7 150")
    assert (run.first_ns, run.last_ns, run.has_ended) == (100, 150, True)
    (killed,) = runs("start 1 1 default east 7 100", "on 1 1 default east 7 130")
    assert (killed.last_ns, killed.has_ended) == (130, False)


def test_a_job_that_runs_on_two_hosts_at_once_is_seen_whatever_their_clocks_say() -> None:
    first = ("start 1 1 default east 7 100", "on 1 1 default east 7 130")
    assert overlaps(runs(*first, "start 1 2 default west 7 1120"))
    assert not overlaps(runs(*first, "start 1 2 default west 7 1140"))
    assert not overlaps(runs(*first, "start 2 1 default west 7 1120"))


def test_a_long_run_is_held_against_all_that_follow() -> None:
    long = ("start 1 1 single east 7 100", "end 1 1 single east 7 900")
    short = ("start 2 1 single west 8 1200", "end 2 1 single west 8 1300")
    last = ("start 3 1 single west 8 1400", "end 3 1 single west 8 1500")
    assert len(crowds(runs(*long, *short, *last), "single")) == 2
    assert crowds(runs(*short, *last), "single") == []
    assert crowds(runs(*long, *short, *last), "default") == []
