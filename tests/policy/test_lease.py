import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.model import PeerSupervisor
from mpdispatch.policy.lease import (
    PeerVerdict,
    judge_peer,
    margin_us,
    renew_every_us,
    trusted_until_boot_us,
)

ALIVE, DEAD, EXPIRED = PeerVerdict.ALIVE, PeerVerdict.DEAD, PeerVerdict.EXPIRED
THRESHOLDS = st.integers(50_000, 10**12)


def peer(host="here", machine_id="m1", boot_id="b1", left_us=1):
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
        lease_left_us=left_us,
        renewed=0,
    )


def verdict(of, process_is_alive=None):
    return judge_peer(of, boot_id="b1", machine_id="m1", host="here", process_is_alive=process_is_alive)


@pytest.mark.parametrize(
    ("process_is_alive", "left_us", "expected"),
    [
        (True, 1, ALIVE),
        (None, 1, ALIVE),
        (False, 1, DEAD),
        (True, 0, EXPIRED),
        (None, 0, EXPIRED),
        (False, 0, DEAD),
    ],
)
def test_on_the_same_boot_the_process_decides_then_the_lease(process_is_alive, left_us, expected):
    assert verdict(peer(left_us=left_us), process_is_alive) is expected


@pytest.mark.parametrize("process_is_alive", [True, False, None])
def test_an_earlier_boot_of_this_machine_is_over_whatever_its_lease_says(process_is_alive):
    assert verdict(peer(boot_id="b0", left_us=10**18), process_is_alive) is DEAD


@pytest.mark.parametrize(
    "elsewhere", [{"host": "there"}, {"machine_id": "m2"}, {"host": "there", "machine_id": "m2"}]
)
@pytest.mark.parametrize("process_is_alive", [True, False, None])
def test_elsewhere_only_the_lease_counts(elsewhere, process_is_alive):
    assert verdict(peer(boot_id="b9", **elsewhere), process_is_alive) is ALIVE
    assert verdict(peer(boot_id="b9", left_us=0, **elsewhere), process_is_alive) is EXPIRED


@given(THRESHOLDS, st.integers(0, 10**15))
def test_a_supervisor_stops_trusting_its_lease_before_a_peer_may_take_it(threshold_us, boot_us):
    until_boot_us = boot_us + threshold_us
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
