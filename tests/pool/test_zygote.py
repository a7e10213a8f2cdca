"""The process that forks workers, as its supervisor ends."""

from __future__ import annotations

import os
import select
import sys

import pytest

from mpdispatch.pool.exec import launch_zygote

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are zygotes on Linux only")


@pytest.mark.parametrize("has_read", [True, False])
def test_a_zygote_ends_quietly_with_its_channel(capfd: pytest.CaptureFixture[str], has_read: bool) -> None:
    launched = launch_zygote("0" * 32)
    assert launched.pidfd is not None
    assert select.select([launched.channel], [], [], 30)[0]  # it is ready
    if has_read:
        assert launched.channel.receive(wait=False)
    launched.channel.close()
    assert select.select([launched.pidfd], [], [], 30)[0]
    assert launched.reap() == (0, None)
    os.close(launched.death_fd)
    launched.close_pidfd()
    assert capfd.readouterr() == ("", "")


def test_a_zygote_whose_supervisor_ends_before_it_is_ready_ends_quietly(
    capfd: pytest.CaptureFixture[str],
) -> None:
    launched = launch_zygote("0" * 32)
    assert launched.pidfd is not None
    launched.channel.close()
    assert select.select([launched.pidfd], [], [], 30)[0]
    assert launched.reap() == (0, None)
    os.close(launched.death_fd)
    launched.close_pidfd()
    assert capfd.readouterr() == ("", "")
