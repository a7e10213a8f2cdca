import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.clock import Instant
from mpdispatch.model import PeerSupervisor
from mpdispatch.policy.lease import (
    PeerVerdict,
    judge_peer,
    lease,
    margin_us,
    renew_every_us,
    trusted_until_boot_us,
)

ALIVE, DEAD, EXPIRED = PeerVerdict.ALIVE, PeerVerdict.DEAD, PeerVerdict.EXPIRED
NOW = Instant(wall_us=1_000_000, boot_us=500_000)
THRESHOLDS = st.integers(50_000, 10**12)


def peer(host="here", machine_id="m1", boot_id="b1", until_us=NOW.wall_us + 1, until_boot_us=NOW.boot_us + 1):
    return PeerSupervisor(
        host=host,
        machine_id=machine_id,
        boot_id=boot_id,
        pid=10,
        pid_start=1,
        pid_namespace="pid:[1]",
        queues=("default",),
        concurrency=1,
        app="",
        version="0",
        id=3,
        started_us=0,
        heartbeat_us=0,
        lease_until_us=until_us,
        lease_until_boot_us=until_boot_us,
    )


def verdict(of, process_is_alive=None, now=NOW):
    return judge_peer(
        of, now=now, boot_id="b1", machine_id="m1", host="here", process_is_alive=process_is_alive
    )


@pytest.mark.parametrize(
    ("process_is_alive", "until_boot_us", "expected"),
    [
        (True, NOW.boot_us + 1, ALIVE),
        (None, NOW.boot_us + 1, ALIVE),
        (False, NOW.boot_us + 1, DEAD),
        (True, NOW.boot_us, EXPIRED),
        (None, NOW.boot_us, EXPIRED),
        (False, NOW.boot_us, DEAD),
    ],
)
def test_on_the_same_boot_the_process_decides_then_the_boottime_lease(
    process_is_alive, until_boot_us, expected
):
    assert verdict(peer(until_boot_us=until_boot_us), process_is_alive) is expected


@given(st.integers(-(10**15), 10**15), st.sampled_from([True, None]))
def test_a_jump_of_the_wall_clock_never_ends_a_lease_on_the_same_boot(jump_us, process_is_alive):
    now = Instant(NOW.wall_us + jump_us, NOW.boot_us)
    assert verdict(peer(), process_is_alive, now) is ALIVE


@pytest.mark.parametrize("process_is_alive", [True, False, None])
def test_an_earlier_boot_of_this_machine_is_over_whatever_its_lease_says(process_is_alive):
    assert verdict(peer(boot_id="b0", until_us=10**18, until_boot_us=10**18), process_is_alive) is DEAD


@pytest.mark.parametrize(
    "elsewhere", [{"host": "there"}, {"machine_id": "m2"}, {"host": "there", "machine_id": "m2"}]
)
@pytest.mark.parametrize("process_is_alive", [True, False, None])
def test_elsewhere_only_the_wall_clock_lease_counts(elsewhere, process_is_alive):
    assert verdict(peer(boot_id="b9", until_boot_us=0, **elsewhere), process_is_alive) is ALIVE
    late = peer(boot_id="b9", until_us=NOW.wall_us, until_boot_us=10**18, **elsewhere)
    assert verdict(late, process_is_alive) is EXPIRED


@given(THRESHOLDS, st.integers(0, 10**15))
def test_a_supervisor_stops_trusting_its_lease_before_a_peer_may_take_it(threshold_us, boot_us):
    _, until_boot_us = lease(Instant(0, boot_us), threshold_us)
    trusted = trusted_until_boot_us(boot_us, threshold_us)
    assert boot_us < trusted < until_boot_us
    assert until_boot_us - trusted == margin_us(threshold_us) >= threshold_us // 10


@given(THRESHOLDS, st.integers(10_000, 10**12))
def test_two_renewals_fit_into_the_trusted_time(threshold_us, heartbeat_us):
    every = renew_every_us(heartbeat_us, threshold_us)
    assert 0 < every <= heartbeat_us
    assert 2 * every <= trusted_until_boot_us(0, threshold_us)


def test_the_defaults_trust_27_seconds_and_renew_every_10():
    assert trusted_until_boot_us(0, 30_000_000) == 27_000_000
    assert renew_every_us(10_000_000, 30_000_000) == 10_000_000
