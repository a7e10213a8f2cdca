"""The IANA name of this machine's time zone. Effects: reads files of /etc."""

from __future__ import annotations

import os
import zoneinfo
from pathlib import Path

UNKNOWN = "UTC"
"""The zone of a machine that names none, as the C library has it."""


def host_zone(etc: Path = Path("/etc")) -> str:
    """The zone that TZ names, else that of /etc/localtime, else UTC.

    A TZ that is no IANA name (`EST5EDT,M3.2.0`) cannot be kept in a cron entry, so the machine's own zone counts then.
    """
    named = os.environ.get("TZ", "").removeprefix(":")
    for candidate in (_below_zoneinfo(Path(named)) if named.startswith("/") else named, _of_etc(etc)):
        if candidate and _is_zone(candidate):
            return candidate
    return UNKNOWN


def _of_etc(etc: Path) -> str | None:
    """The zone of /etc/localtime: by the file it links to, else by /etc/timezone, else by its content."""
    local = etc / "localtime"
    try:
        if local.is_symlink() and (linked := _below_zoneinfo(local.resolve())) is not None:
            return linked
        content = local.read_bytes()
    except OSError:
        content = b""
    try:
        named = (etc / "timezone").read_text("ascii", "replace").strip()
    except OSError:
        named = ""
    return named or (_with_content(content) if content else None)


def _below_zoneinfo(path: Path) -> str | None:
    """
    >>> _below_zoneinfo(Path("/usr/share/zoneinfo/Europe/Berlin"))
    'Europe/Berlin'
    """
    parts = path.parts
    if "zoneinfo" not in parts:
        return None
    return "/".join(parts[len(parts) - parts[::-1].index("zoneinfo") :])


def _with_content(content: bytes) -> str | None:
    """The zone whose file has this content: /etc/localtime may be a copy of it."""
    for folder in map(Path, zoneinfo.TZPATH):
        for name in sorted(zoneinfo.available_timezones()):
            file = folder / name
            try:
                if file.stat().st_size == len(content) and file.read_bytes() == content:
                    return name
            except OSError:
                continue
    return None


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True
