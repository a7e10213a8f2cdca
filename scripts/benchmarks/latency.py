"""Latency: from enqueue to the handler's first line, idle and at half load; from an outcome to `wait()`'s return.

References and subjects alternate in blocks. The sum of a raw single-row FULL commit and of the standard pool's
submit-to-start is what a durable queue can hardly go below: it must do both.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor

from app import engine
from blocks import interleave, median, p99
from peers import Peer
from references import Metronome, RawTable, pipe_round_trips, warm_pool
from report import Figure, Target, from_blocks
from run import Run
from service import PATIENCE_S
from sizes import WORKERS
from work import burn, rounds_per_ms, stamp

from mpdispatch import Engine

Probe = Callable[[], float]
Samples = dict[str, list[float]]

LOAD_JOB_MS = 5
PEER_SAMPLES = 40


def measure(run: Run) -> Iterator[Figure]:
    with warm_pool() as pool:
        yield from _idle(run, pool)
        yield from _half_load(run, pool)
    for peer in run.peers:
        if peer.latency_limit is not None:
            yield _beside(run, peer, peer.latency_limit)
            continue
        for setting in peer.settings:
            found = peer.latencies(run, setting, min(PEER_SAMPLES, run.size.latency_samples))
            yield Figure(
                mode="latency",
                name=f"idle, {peer.name} {setting}: p50",
                value=median(found),
                unit="ms",
            )


def _beside(run: Run, peer: Peer, limit: float) -> Figure:
    """A block of ours between two of the peer's, each with its supervisor or consumers warm and idle."""
    samples = min(run.size.latency_block, run.size.latency_samples)
    (setting,) = peer.settings
    with run.service("beside") as service:
        _enqueue(service.engine)
        blocks = interleave(
            lambda: median(peer.latencies(run, setting, samples)),
            {"mpdispatch": lambda: median(sample(lambda: _enqueue(service.engine), samples))},
            run.size.blocks,
        )
    return from_blocks(
        "latency",
        f"idle, enqueue → first line beside {peer.name}: p50",
        "ms",
        blocks,
        "mpdispatch",
        reference_name=peer.name,
        target=Target("ratio", "≤", limit),
        note=f"medians of {samples} samples a block",
    )


def _idle(run: Run, pool: ProcessPoolExecutor) -> Iterator[Figure]:
    raw = RawTable(run.path("raw.db"))
    # `app.engine` is on BENCH_STORE, in this run's folder: its supervisor is a thread of this process.
    with run.service("idle") as service, engine.dispatcher:
        probes: dict[str, Probe] = {
            "commit": lambda: _commit(raw),
            "pool": lambda: _submit(pool),
            "other process": lambda: _enqueue(service.engine),
            "same process": lambda: _enqueue(engine),
        }
        for probe in probes.values():
            probe()
        found = alternate(probes, run.size.latency_samples, run.size.latency_block)
        waits = [_wait(service.engine) for _ in range(max(1, run.size.latency_samples // 5))]
        trips = pipe_round_trips(run.size.latency_samples)
    raw.close()
    engine.store.close()
    commits, starts = found["commit"], found["pool"]
    for subject in ("other process", "same process"):
        for label, reduce, limit in (("p50", median, 1.5), ("p99", p99, 2.0)):
            yield Figure(
                mode="latency",
                name=f"idle, enqueue in {subject} → first line: {label}",
                value=reduce(found[subject]),
                unit="ms",
                reference=reduce(commits) + reduce(starts),
                reference_name="raw commit + submit-to-start",
                target=Target("ratio", "≤", limit) if run.server is None else None,
                note=f"commit {reduce(commits):.2f} ms, submit-to-start {reduce(starts):.2f} ms, "
                f"{len(commits)} samples each",
            )
    yield Figure(
        mode="latency",
        name="handler returns → wait() returns: p99",
        value=p99(waits),
        unit="ms",
        reference=p99(trips),
        reference_name="raw pipe round trip",
        target=Target("value", "≤", 20),
        note=f"{len(waits)} jobs of 5 to 80 ms; p50 {median(waits):.2f} ms",
    )


def _half_load(run: Run, pool: ProcessPoolExecutor) -> Iterator[Figure]:
    rounds = LOAD_JOB_MS * rounds_per_ms()
    rates: list[float] = []

    def half_of_capacity() -> float:
        """Looked up before each block: what the machine can do now may be less than a minute ago."""
        began = time.perf_counter()
        list(pool.map(burn, [rounds] * 20 * WORKERS))
        rates.append(20 * WORKERS / (time.perf_counter() - began) / 2)
        return rates[-1]

    with run.service("half") as service:
        probes: dict[str, Probe] = {
            "pool": lambda: _submit(pool),
            "mpdispatch": lambda: _enqueue(service.engine),
        }
        loads = {
            "pool": Metronome(lambda: pool.submit(burn, rounds)),
            "mpdispatch": Metronome(lambda: service.engine.enqueue("burn", rounds=rounds)),
        }
        found: Samples = {name: [] for name in probes}
        while len(found["pool"]) < run.size.latency_samples:
            per_s = half_of_capacity()
            for name, probe in probes.items():
                loads[name].on(per_s)
                time.sleep(0.2)  # until it is a steady load
                found[name] += sample(probe, run.size.latency_block)
                loads[name].off()
                probe()  # comes last: what the load left behind is done
        for load in loads.values():
            load.stop()
    for label, reduce in (("p50", median), ("p99", p99)):
        yield Figure(
            mode="latency",
            name=f"half load, enqueue → first line: {label}",
            value=reduce(found["mpdispatch"]),
            unit="ms",
            reference=reduce(found["pool"]),
            reference_name="ProcessPoolExecutor submit-to-start",
            note=f"{median(rates):.0f} jobs/s of {LOAD_JOB_MS} ms on both sides, half of what the pool can do",
        )


def alternate(probes: Mapping[str, Probe], samples: int, block: int) -> Samples:
    """That many samples of each, a block of one after a block of the other."""
    found: Samples = {name: [] for name in probes}
    while any(len(each) < samples for each in found.values()):
        for name, probe in probes.items():
            found[name] += sample(probe, block)
    return found


def sample(probe: Probe, count: int) -> list[float]:
    """So many measurements, a short random pause before each."""
    found = []
    for _ in range(count):
        time.sleep(random.uniform(0.002, 0.006))
        found.append(probe())
    return found


def _commit(raw: RawTable) -> float:
    began = time.monotonic_ns()
    raw.insert()
    return (time.monotonic_ns() - began) / 1e6


def _submit(pool: ProcessPoolExecutor) -> float:
    began = time.monotonic_ns()
    return float(pool.submit(stamp).result() - began) / 1e6


def _enqueue(on: Engine) -> float:
    began = time.monotonic_ns()
    job = on.enqueue("stamp")
    return float(on.wait(job.id, timeout=PATIENCE_S).result - began) / 1e6


def _wait(on: Engine) -> float:
    """From the handler's last line: its outcome travels, is decided, committed and noticed."""
    job = on.enqueue("nap", seconds=random.uniform(0.005, 0.08))
    ended = on.wait(job.id, timeout=PATIENCE_S).result
    return (time.monotonic_ns() - float(ended)) / 1e6
