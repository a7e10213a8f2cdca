"""What was measured, as figures beside their references and targets; printed for people or as JSON."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from blocks import Blocks, median
from peers import Peer
from servers import Server
from sizes import WORKERS

from mpdispatch import Config
from mpdispatch.sqlite3 import version_info


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach: its ratio to the reference, or its value."""

    of: Literal["ratio", "value"]
    sign: Literal["≥", "≤"]
    limit: float

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.sign == "≥" else value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report. `ratio` is value / reference: the median over blocks, where there are blocks."""

    mode: str
    name: str
    value: float
    unit: str
    reference: float | None = None
    reference_name: str | None = None
    ratios: Sequence[float] = ()
    """Of each block."""
    target: Target | None = None
    note: str | None = None

    @property
    def ratio(self) -> float | None:
        if self.ratios:
            return median(self.ratios)
        return None if not self.reference else self.value / self.reference

    @property
    def verdict(self) -> Literal["ok", "miss"] | None:
        measured = self.value if self.target is None or self.target.of == "value" else self.ratio
        if self.target is None or measured is None:
            return None
        return "ok" if self.target.is_met(measured) else "miss"

    def as_json(self) -> dict[str, Any]:
        target = self.target and {"of": self.target.of, "sign": self.target.sign, "limit": self.target.limit}
        return {
            "mode": self.mode,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference,
            "reference_name": self.reference_name,
            "ratio": self.ratio,
            "ratios": list(self.ratios),
            "target": target,
            "verdict": self.verdict,
            "note": self.note,
        }

    def as_text(self) -> str:
        parts = [f"{self.name:<46} {_number(self.value):>9} {self.unit:<8}"]
        if self.reference is not None and self.ratio is not None:
            spread = f" [{min(self.ratios):.2f}–{max(self.ratios):.2f}]" if len(self.ratios) > 1 else ""
            parts.append(
                f"{self.ratio:6.2f} ×{spread} {self.reference_name} {_number(self.reference)} {self.unit}"
            )
        if self.target is not None:
            unit = "×" if self.target.of == "ratio" else self.unit
            parts.append(f"target {self.target.sign} {self.target.limit:g} {unit}: {self.verdict}")
        return "  ".join(parts) + (f"\n    {self.note}" if self.note else "")


def from_blocks(mode: str, name: str, unit: str, blocks: Blocks, subject: str, **more: Any) -> Figure:
    """The figure of one subject: medians, and the ratio of each block."""
    return Figure(
        mode=mode,
        name=name,
        unit=unit,
        value=median(blocks.subjects[subject]),
        reference=median(blocks.reference),
        ratios=blocks.ratios(subject),
        **more,
    )


@dataclass(slots=True)
class Report:
    """All figures of a run, with what one must know to judge them."""

    facts: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    """Modes that could not be measured, and why."""

    def as_json(self) -> dict[str, Any]:
        return {**self.facts, "figures": [each.as_json() for each in self.figures], "errors": self.errors}


def facts(
    command: str, size: str, folder: Path, peers: Sequence[Peer], server: Server | None = None
) -> dict[str, Any]:
    """Date, versions, machine and settings of this run."""
    config = Config(concurrency=WORKERS)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "size": size,
        "versions": {
            "mpdispatch": _version(),
            "python": platform.python_version(),
            "sqlite": ".".join(map(str, version_info)),
        },
        "machine": {
            "cpu": _cpu(),
            "cpus": Config(concurrency="auto").slots,
            "kernel": f"{platform.system()} {platform.release()}",
            "filesystem": _filesystem(folder),
        },
        "settings": {
            "workers": WORKERS,
            "durability": config.durability,
            "prefetch_window": config.prefetch_window,
            "max_prefetch": config.max_prefetch,
            "poll_interval": config.poll_interval,
        },
        "server": server and server.describe(),
        "peers": [peer.describe() for peer in peers],
    }


def header(found: dict[str, Any]) -> str:
    machine, settings = found["machine"], found["settings"]
    return "\n".join(
        [
            f"{found['command']}  ({found['size']}, {found['date']})",
            ", ".join(f"{name} {number}" for name, number in found["versions"].items()),
            f"{machine['cpus']} × {machine['cpu']}, {machine['kernel']}, {machine['filesystem']}",
            ", ".join(f"{name}={value}" for name, value in settings.items()),
            *filter(None, [found["server"]]),
            *found["peers"],
        ]
    )


def _version() -> str:
    """Of the package, and the commit of this checkout where git knows it."""
    try:
        number = version("mpdispatch")
    except PackageNotFoundError:  # run from a checkout that is not installed
        number = "0"
    git = shutil.which("git")
    if git is None:
        return number
    asked = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    described = subprocess.run(asked, capture_output=True, text=True, check=False)
    return number if described.returncode else f"{number} ({described.stdout.strip()})"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _cpu() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    """Of the stores: on tmpfs an fsync is free, and the figures mean nothing."""
    best, kind = "", "unknown"
    for line in _lines("/proc/self/mounts"):
        mount, this = line.split()[1:3]
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, this
    return kind


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []  # not Linux
