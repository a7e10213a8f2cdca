import os

import pytest

from mpdispatch.cpus import usable_cpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A made-up root with eight usable CPUs; call it with the files it holds."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)

    def build(files):
        for path, text in files.items():
            place = tmp_path / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return tmp_path

    return build


def test_without_a_quota_the_affinity_counts(machine):
    assert usable_cpus(machine({"proc/self/cgroup": "0::/\n"})) == 8
    assert usable_cpus(machine({})) == 8


@pytest.mark.parametrize(
    ("cpu_max", "cpus"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8)]
)
def test_a_cgroup_v2_quota_limits_the_count(machine, cpu_max, cpus):
    root = machine({"proc/self/cgroup": "0::/app/jobs\n", "sys/fs/cgroup/app/jobs/cpu.max": cpu_max})
    assert usable_cpus(root) == cpus


def test_the_smallest_quota_on_the_way_up_counts(machine):
    root = machine(
        {
            "proc/self/cgroup": "0::/app/jobs\n",
            "sys/fs/cgroup/app/jobs/cpu.max": "600000 100000",
            "sys/fs/cgroup/app/cpu.max": "300000 100000",
        }
    )
    assert usable_cpus(root) == 3


@pytest.mark.parametrize("folder", ["cpu,cpuacct/app", "cpu/app", "cpu"])
@pytest.mark.parametrize(("quota", "cpus"), [("250000", 3), ("-1", 8)])
def test_a_cgroup_v1_quota_limits_the_count(machine, folder, quota, cpus):
    root = machine(
        {
            "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/app\n",
            f"sys/fs/cgroup/{folder}/cpu.cfs_quota_us": f"{quota}\n",
            f"sys/fs/cgroup/{folder}/cpu.cfs_period_us": "100000\n",
        }
    )
    assert usable_cpus(root) == cpus


@pytest.mark.parametrize("text", ["", "junk", "0 0", "1 2 3"])
def test_an_odd_quota_is_no_limit(machine, text):
    assert usable_cpus(machine({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": text})) == 8


def test_this_machine_has_at_least_one_cpu():
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
