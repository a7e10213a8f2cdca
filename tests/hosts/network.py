"""Hosts made of namespaces, at a bridge that only they and this machine have. Linux, root."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import IO, Any

from tests.servers.guard import PR_SET_PDEATHSIG, prctl
from tests.whole.harness import Process, children, until

PROGRAMS = ("ip", "unshare", "nsenter", "mount")
SPACES = ("net", "pid", "mount", "uts", "ipc", "time")
ADDRESS = "10.77"
"""The first half of all addresses; the third number is the network's own."""

INIT = """
import os, subprocess, sys, time
name, folder = sys.argv[1:3]
run = lambda *words: subprocess.run(words, check=True)
open("/proc/sys/kernel/hostname", "w").write(name)
run("ip", "link", "set", "lo", "up")
run("mount", "-t", "tmpfs", "none", "/var/tmp")
for what, path in (("boot_id", "/proc/sys/kernel/random/boot_id"), ("machine_id", "/etc/machine-id")):
    if os.path.exists(f"{folder}/{what}") and os.path.exists(path):
        run("mount", "--bind", f"{folder}/{what}", path)
print("up", flush=True)
while True:
    try:
        os.wait()  # for processes that lost their parent
    except ChildProcessError:
        time.sleep(0.02)
"""


def why_not() -> str:
    """Why no hosts can be made here; empty: they can."""
    if sys.platform != "linux":
        return "hosts are made of namespaces of Linux"
    if os.geteuid() != 0:
        return "hosts are made by root only"
    if missing := [each for each in PROGRAMS if shutil.which(each) is None]:
        return f"hosts need the programs {', '.join(missing)}"
    flags = [f"--{each}" for each in SPACES]
    tried = subprocess.run(
        ["unshare", *flags, "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        return f"no leave to make namespaces: {tried.stderr.strip()}"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "try", "type", "bridge"], capture_output=True, text=True
    )
    return "" if tried.returncode == 0 else f"no leave to make a bridge: {tried.stderr.strip()}"


class Network:
    """A bridge; `address` is this machine's on it, for servers to listen on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.hosts: list[Host] = []
        """Those that were not taken away yet."""
        self._places = count(10)
        _remove_abandoned()
        self._number, self._claim = _free_number()
        self._bridge = f"mpd{self._number}x{os.getpid()}"
        self.address = f"{ADDRESS}.{self._number}.1"
        _ip("link", "add", self._bridge, "type", "bridge", "forward_delay", "0")
        _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def host(self, name: str, *, like: Host | None = None) -> Host:
        """A new host. `like`: on the same kernel as that one, as another container is."""
        made = Host(self, name, next(self._places), self._folder, like=like)
        self.hosts.append(made)
        return made

    def connect(self, init: int, place: int) -> str:
        """Lay a cable to the network namespace of this process; gives the name of this end."""
        ours, theirs = f"mpdv{place}x{os.getpid()}", f"mpdw{place}x{os.getpid()}"
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
        _ip("link", "set", ours, "master", self._bridge)
        _ip("link", "set", ours, "up")
        _ip("link", "set", theirs, "netns", str(init))
        inside = ["nsenter", f"--net=/proc/{init}/ns/net", "ip"]
        _run(*inside, "address", "add", f"{ADDRESS}.{self._number}.{place}/24", "dev", theirs)
        _run(*inside, "link", "set", theirs, "up")
        return ours

    def take_away(self) -> None:
        """End all hosts."""
        for each in self.hosts:
            each.power_off()
        self.hosts.clear()

    def close(self) -> None:
        self.take_away()
        _ip("link", "delete", self._bridge)
        self._claim.close()


class Host:
    """A machine as far as programs can tell."""

    def __init__(self, network: Network, name: str, place: int, folder: Path, *, like: Host | None) -> None:
        """`place`: the last number of its address."""
        self.name, self._started = name, list[Process]()
        own = folder / f"host-{name}-{place}"
        own.mkdir()
        (own / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (own / "machine_id").write_text(f"{uuid.uuid4().hex}\n")
        uptime_s = 100_000 * place
        if like is not None:
            own = like.own
            uptime_s = like.uptime_s
        self.own, self.uptime_s = own, uptime_s
        command = ["unshare", *(f"--{each}" for each in SPACES), "--fork", "--kill-child", "--mount-proc"]
        command += ["--boottime", str(uptime_s), "--monotonic", str(uptime_s)]
        log = folder / f"host-{name}-{place}.log"
        with log.open("wb") as said:
            self._unshare = subprocess.Popen(
                [*command, sys.executable, "-S", "-c", INIT, name, str(own)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                preexec_fn=_end_with_the_test,
            )
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == b"up\n", log.read_text()
        (self.init,) = children(self._unshare.pid)
        self._cable = network.connect(self.init, place)
        offsets = Path(f"/proc/{self.init}/timens_offsets").read_text()
        found = re.search(r"^monotonic\s+(\d+)\s+(\d+)$", offsets, re.MULTILINE)
        assert found is not None, offsets
        self.offset_ns = int(found[1]) * 1_000_000_000 + int(found[2])
        """How much its monotonic clock is ahead of ours."""

    def start(self, argv: Sequence[str], *, folder: Path, env: Mapping[str, str], tag: str) -> HostProcess:
        """Run a program here, in `folder`; its output goes to `tag.out` and `tag.err` there."""
        out, err = folder / f"{tag}.out", folder / f"{tag}.err"
        with out.open("wb") as o, err.open("wb") as e:
            popen = subprocess.Popen(
                self.command(argv, folder),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=o,
                stderr=e,
                preexec_fn=_end_with_the_test,
            )
        process = HostProcess(popen, out, err, self)
        self._started.append(process)
        return process

    def run(
        self, argv: Sequence[str], *, folder: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end."""
        return subprocess.run(
            self.command(argv, folder),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def command(self, argv: Sequence[str], folder: Path) -> list[str]:
        flags = [f"--{each}" for each in SPACES]
        return ["nsenter", "--target", str(self.init), *flags, "--", "env", "--chdir", str(folder), *argv]

    def cut(self) -> None:
        """Pull the cable: nothing comes through, and nobody is told."""
        _ip("link", "set", self._cable, "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self._cable, "up")

    def power_off(self) -> None:
        """End all that runs here at once, and nobody is told. The host does not come back."""
        if self._unshare.poll() is None:
            self.cut()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
            # The last one ends once all others were waited for, by programs that stop while their child is stopped.
            until(self._is_off, f"{self.name} is off")
            # It goes with the host's namespace, some time later; its name is to be free now.
            subprocess.run(["ip", "link", "delete", self._cable], capture_output=True, check=False)
        assert self._unshare.stdout is not None
        self._unshare.stdout.close()
        for each in self._started:
            each.popen.wait()

    def _is_off(self) -> bool:
        for each in self._started:
            each.popen.send_signal(signal.SIGCONT)
        return self._unshare.poll() is not None and all(each.popen.poll() is not None for each in self._started)


class HostProcess(Process):
    """A process on a host. Its `pid` is the one by which this machine knows it."""

    def __init__(self, popen: subprocess.Popen[bytes], out: Path, err: Path, host: Host) -> None:
        super().__init__(popen, out, err)
        self.host = host
        self._pid = until(lambda: children(popen.pid) or popen.poll(), "a process on a host")

    @property
    def pid(self) -> int:
        assert isinstance(self._pid, list), f"it ended at once: {self.err}"
        return int(self._pid[0])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it alone. What waits for it here stops and goes on with it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        if number == signal.SIGCONT:
            self.popen.send_signal(number)


def _end_with_the_test() -> None:
    """Else a host would outlive a test that is killed, with all that runs there."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def pid_on_host(pid: int) -> int:
    """The id that a process of ours has on its host."""
    found = re.search(r"^NSpid:.*?(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _free_number() -> tuple[int, IO[bytes]]:
    """A number that no other test run has, and the file whose lock says so, until it is closed."""
    for number in range(1, 255):
        claim = (Path(tempfile.gettempdir()) / f"mpdispatch-network-{number}").open("ab")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.close()
        else:
            return number, claim
    raise AssertionError("all networks are in use")


def _remove_abandoned() -> None:
    """What test runs that were killed have left."""
    for name in _links():
        if not Path(f"/proc/{name.partition('x')[2]}").exists():
            subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def _links() -> list[str]:
    """Bridges and cables of all test runs; each name ends with the id of its process."""
    found: list[dict[str, Any]] = json.loads(_ip("-json", "link", "show"))
    names = [str(each.get("ifname", "")) for each in found]
    return [each for each in names if re.fullmatch(r"mpd[vw]?\d+x\d+", each)]


def _ip(*words: str) -> str:
    return _run("ip", *words)


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout
